"""Model cards: what the hub reads in them, and what they claim."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_eval_result, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

import xner.report.card
from xner.backbone import load_config
from xner.errors import RunError, UserError
from xner.report.card import (
    CardOptions,
    Facts,
    Measured,
    carry_card,
    license_of,
    measured_scores,
    read_card,
    render_card,
    write_card,
)
from xner.report.runs import Run, comparable_counts
from xner.report.statistics import Interval, Resampled
from xner.transfer.result import read_result

SCORES = {"f1": 0.5, "precision": 0.4, "recall": 0.75, "accuracy": 0.9, "f1_strict": 0.45, "f1_PER": 0.3125}


def episode(**others: object) -> dict[str, Any]:
    """An episode of a lineage."""
    known = {"source": "panx", "language": "en", "split": "train", "sentences": 20_000, "seed": 42, "labels": "gold"}
    return {**known, **others}


def facts(*episodes: dict[str, Any], lineage: dict[str, Any] | None = None, **others: Any) -> Facts:  # noqa: ANN401 - as Facts has them
    """What a card says of a model that was trained on some episodes."""
    known = {"origin": "tiny", "episodes": list(episodes), **(lineage or {})}
    return Facts(**{"name": "it", "types": ["PER"], "lineage": known, "source": "panx", **others})


def folder_with(tmp_path: Path, **config: object) -> Path:
    """Make a folder with a configuration."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xlm-roberta", **config}), encoding="utf-8")
    return tmp_path


def data_of(text: str) -> Any:  # noqa: ANN401 - ModelCardData; ModelCard declares what datasets have as well
    """The metadata block of a card, as the hub reads it."""
    return ModelCard(text).data


def cells(text: str) -> list[list[str]]:
    """The cells of each row of all tables, as GitHub divides them."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]


def test_hub_reads_the_metadata(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """The hub's own classes read back what was measured, to the last digit that the card gives."""
    stage = write_run(tmp_path / "run") / "stages" / "progressive-tr-1000-seed42"
    result = read_result(stage)
    assert result
    folder = folder_with(stage / "model")
    measured = measured_scores(stage, result)
    write_card(
        folder,
        Facts(
            name=result["stage"], types=result["types"], license="cc-by-sa-4.0", measured=measured, source="panx",
            lineage={"origin": "tiny", "episodes": [episode(), episode(language="tr", sentences=1000)]},
        ),
    )  # fmt: skip
    found = metadata_load(folder / "README.md")
    assert found == ModelCard.load(folder / "README.md").data.to_dict()
    index = found.pop("model-index")
    assert found == {
        "language": ["en", "tr"],
        "license": "cc-by-sa-4.0",
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        "datasets": ["google/xtreme"],
        "tags": ["xner", "named-entity-recognition"],
        "metrics": ["f1", "precision", "recall", "accuracy"],
    }
    name, scores = model_index_to_eval_results(index)
    assert name == "progressive-tr-1000-seed42"
    assert {(each.dataset_type, each.dataset_config, each.dataset_split) for each in scores} == {
        ("google/xtreme", "PAN-X.en", "test"),
        ("google/xtreme", "PAN-X.tr", "test"),
    }
    expected = {
        (f"PAN-X.{each['language']}", metric): round(each[metric], 4)
        for each in result["evaluations"]
        for metric in ("f1", "precision", "recall", "accuracy")
    }
    assert {(each.dataset_config, each.metric_type): each.metric_value for each in scores} == expected
    [as_the_hub_writes] = metadata_eval_result(
        model_pretty_name="it", task_pretty_name="Named-entity recognition", task_id="token-classification",
        metrics_pretty_name="F1", metrics_id="f1", metrics_value=expected["PAN-X.tr", "f1"],
        dataset_pretty_name="PAN-X (Turkish)", dataset_id="google/xtreme", dataset_config="PAN-X.tr",
        dataset_split="test",
    )["model-index"][0]["results"]  # fmt: skip
    [ours] = [each for each in index[0]["results"] if each["dataset"]["config"] == "PAN-X.tr"]
    [first] = [each for each in ours["metrics"] if each["type"] == "f1"]
    assert {**ours, "metrics": [{**first, "verified": False}]} == as_the_hub_writes


def test_hub_is_asked_to_validate(
    tmp_path: Path, write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ModelCard.validate`` sends the card as it is, with what the hub's schema of scores requires."""
    stage = write_run(tmp_path / "run") / "stages" / "progressive-tr-1000-seed42"
    result = read_result(stage)
    assert result
    shown = facts(episode(), license="mit", types=result["types"], measured=measured_scores(stage, result))
    write_card(folder_with(tmp_path / "model"), shown)
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200 if len(sent) == 1 else 400, text="a reason")

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    monkeypatch.setattr("huggingface_hub.repocard.get_session", lambda: client)
    card = ModelCard.load(tmp_path / "model" / "README.md")
    card.validate()
    with pytest.raises(ValueError, match="a reason"):
        card.validate()
    body = json.loads(sent[0].content)
    assert (sent[0].method, sent[0].url.path, body["repoType"]) == ("POST", "/api/validate-yaml", "model")
    assert body["content"] == (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    _, block, text = body["content"].split("---\n", 2)
    assert text.lstrip().startswith("# it\n")
    data = yaml.safe_load(block)
    assert data["license"] == "mit"
    assert len(data["model-index"][0]["results"]) == len(result["evaluations"])
    for each in data["model-index"][0]["results"]:
        assert {"type", "name"} <= each["task"].keys()
        assert {"type", "name", "config", "split"} <= each["dataset"].keys()
        assert re.fullmatch(r"[\w-]+/[\w-]+", each["dataset"]["type"])
        assert all(isinstance(metric["type"], str) and 0 <= metric["value"] <= 1 for metric in each["metrics"])


def test_intervals_are_those_of_the_report(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """The interval of each F1 is the report's, and the table has it."""
    run = write_run(tmp_path / "run", sizes=(250,))
    stage = run / "stages" / "source-en-seed42"
    result = read_result(stage)
    assert result
    measured = measured_scores(stage, result)
    for each in measured:
        counts = comparable_counts([(Run(run, "run", [result]), result)], each.languages[0])
        assert each.interval == Resampled(counts).interval([0])
        assert each.interval.low < each.scores["f1"] < each.interval.high
    shown = Facts(name="it", types=result["types"], lineage=result["lineage"], measured=measured, source="sample")
    text = render_card(shown, "bert")
    bounds = measured[1].interval
    assert bounds
    assert f"| {100 * bounds.low:.2f} to {100 * bounds.high:.2f} |" in text
    assert "| Turkish (zero-shot) | test | 120 |" in text
    assert "| English | test | 120 |" in text
    assert 'Tagger.from_pretrained(".")' in text
    viterbi = render_card(replace(shown, options={"model.decoding": "viterbi"}), "bert")
    assert "Scores are those of the best legal IOB2 sequence" in viterbi
    assert 'Tagger.from_pretrained(".", decoding="viterbi")' in viterbi
    assert "| `model.decoding` | `viterbi` |" in viterbi


def test_values_of_users_are_only_values() -> None:
    """Names of languages, types, folders and models neither break tables nor add markup or metadata."""
    odd = "a|b`c\n---\nlicense: mit <b>*x*\ud800"
    shown = facts(
        episode(source=f"/home/me/{odd}", language=odd, split=odd),
        types=["X|Y", "`Z"],
        name=odd,
        source=f"/home/me/{odd}",
        measured=[Measured([odd, "no"], odd, 3, {**SCORES, "f1_X|Y": 0.1, "f1_`Z": 0.2}, Interval(0.1, 0.9))],
        options={"data.map_types": {"X|Y": odd}, "select": "last"},
    )
    text = render_card(shown, "bert")
    text.encode()
    card, data = ModelCard(text), data_of(text)
    assert data.license is None
    assert data.language == ["no"]
    assert data.model_name == "a|b`c --- license: mit <b>*x*\ufffd"
    assert "/home/me" not in text
    assert "<b" not in re.sub(r"`` .*? ``|\\<", "", card.text)  # outside of code
    widths = [len(row) for row in cells(card.text)]
    assert widths == [9] * 3 + [4] * 3 + [6] * 3 + [2] * 4


def test_languages_and_data_sets_of_the_hub_alone() -> None:
    """The metadata block has codes of languages and ids of the hub, no names that the hub does not know."""
    shown = facts(
        episode(language="en_ewt", source="uner"),
        episode(language="zh-classical", source="wikiann"),
        episode(language="no", source="hub:owner/name/config"),
        episode(language="de", source="data/panx"),
    )
    data = data_of(render_card(shown, "bert"))
    assert data.language == ["en", "no", "de"]
    assert data.datasets == ["universalner/universal_ner", "unimelb-nlp/wikiann", "owner/name"]
    assert data.base_model is None
    assert data.metrics is None
    assert data.eval_results is None


def test_base_model_is_one_that_came_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of the hub is claimed where the hub's cache holds it, and never for a folder, even one that is gone."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repository = cache / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "config.json").write_text("{}", encoding="utf-8")
    for origin, expected in {"owner/name": "owner/name", "runs/gone": None, "/a/b/c": None, "sample": None}.items():
        text = render_card(facts(episode(), lineage={"origin": origin}), "bert")
        assert data_of(text).base_model == expected
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert data_of(render_card(facts(episode(), lineage={"origin": "owner/name"}), "bert")).base_model is None


@pytest.mark.parametrize(
    ("source", "model_type", "cited"),
    [
        ("panx", "xlm-roberta", {"Pan,", "Rahimi,", "Conneau,", "Hu,"}),
        ("wikiann", "bert", {"Pan,", "Rahimi,"}),
        ("sample", "xlm-roberta", {"Conneau,"}),
        ("conll2003", "bert", {"Tjong Kim Sang"}),
        ("data/panx", "bert", set()),
    ],
)
def test_cited_is_what_was_used(source: str, model_type: str, cited: set[str]) -> None:
    """Data sets and architectures are cited where they were used."""
    text = render_card(facts(episode(source=source), source=source), model_type).partition("## How to cite")[2]
    names = ("Pan,", "Rahimi,", "Conneau,", "Hu,", "Tjong Kim Sang")
    assert {each for each in names if each in text} == cited


def test_what_the_record_says() -> None:
    """Weights of unknown origin, chosen by the target or trained on a test split, are described as such."""
    plain = render_card(facts(episode()), "bert")
    assert "Languages other than English are in no sentence" in plain
    assert "evaluation splits" not in plain
    unknown = render_card(facts(episode(), lineage={"unrecorded": True}), "bert")
    assert "was trained on is unknown" in unknown
    assert "Languages other than" not in unknown
    assert "was chosen by tagged sentences" in render_card(facts(episode(), lineage={"oracle": True}), "bert")
    assert "evaluation splits** (tr/test)" in render_card(facts(episode(language="tr", split="test")), "bert")
    assert "| predicted by another model |" in render_card(facts(episode(labels="predicted")), "bert")


def test_labels_that_were_trained_on() -> None:
    """The table of the training says of each episode whose tags were trained on, if any."""
    text = render_card(facts(*(episode(labels=each) for each in ("gold", "predicted", "none"))), "bert")
    rows = [row[4].strip() for row in cells(text) if row[0].strip() == "PAN-X"]
    assert rows == ["of the data", "predicted by another model", "not read"]


def test_nothing_measured_is_nothing_claimed() -> None:
    """Without scores, a card has no table of them, and says why."""
    text = render_card(facts(episode(), unmeasured="These weights were not scored."), "bert")
    assert "These weights were not scored." in text
    assert "F1" not in text
    assert "model-index" not in text
    validated = render_card(facts(episode(), measured=[Measured(["en"], "validation", 9, SCORES)]), "bert")
    assert "no test split was scored" in validated
    assert "| not computed |" in validated
    assert "bootstrap" not in validated


@pytest.mark.parametrize("same", [True, False])
def test_exported_card(tmp_path: Path, same: bool) -> None:
    """An exported model's card has a section on the export, and scores in its metadata only if they are its own."""
    folder, target = folder_with(tmp_path / "model"), tmp_path / "onnx"
    target.mkdir()
    write_card(folder, facts(episode(), license="mit", measured=[Measured(["en"], "test", 9, SCORES)]))
    carry_card(str(folder), target, section="## Export\n\nAs ONNX.", usage="Run it.", same_predictions=same)
    card = ModelCard.load(target / "README.md")
    assert re.findall(r"^## .*", card.text, re.MULTILINE)[:2] == ["## Export", "## Results"]
    data = data_of(str(card))
    assert data.license == "mit"
    assert bool(data.eval_results) == bool(data.metrics) == same
    assert ("before the export" in card.text) == (not same)
    assert "## How to use\n\nRun it.\n\n## How to cite\n" in card.text
    assert "model_name" not in card.data.to_dict()


def test_exported_card_of_a_folder_without_one(tmp_path: Path) -> None:
    """A model folder without a card gets one from its configuration and lineage, without scores."""
    folder, target = folder_with(tmp_path / "model", id2label={"0": "O", "1": "B-PER", "2": "I-PER"}), tmp_path / "onnx"
    target.mkdir()
    carry_card(str(folder), target, section="## Export", usage=None, same_predictions=True)
    text = (target / "README.md").read_text(encoding="utf-8")
    assert "of the types PER in text" in text
    assert "was trained on is unknown" in text
    lineage = {"origin": "tiny", "episodes": [episode()]}
    (folder / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    assert not (folder / "README.md").exists()
    carry_card(str(folder), target, section="## Export", usage=None, same_predictions=True)
    assert "| PAN-X | English | train | 20,000 |" in (target / "README.md").read_text(encoding="utf-8")


def test_license(tmp_path: Path) -> None:
    """A license is an identifier; that of a card is read back, and one that nobody gave is not made up."""
    for right in (None, "apache-2.0", "cc-by-nc-sa-4.0", "c-uda", "other"):
        CardOptions(license=right).check()
        write_card(folder_with(tmp_path), facts(episode(), license=right))
        assert license_of(tmp_path / "README.md") == right
    for wrong in ("", "Apache 2.0", "mit\nbase_model: x"):
        with pytest.raises(UserError, match="is not an identifier of the Hugging Face Hub; use one such as"):
            CardOptions(license=wrong).check()
    (tmp_path / "README.md").write_text("no metadata", encoding="utf-8")
    assert license_of(tmp_path / "README.md") is None


def test_exported_card_of_a_hub_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the hub, which has no folder here, gets a card from its configuration."""
    config = load_config(str(folder_with(tmp_path / "cached", id2label={"0": "O", "1": "B-PER", "2": "I-PER"})))
    monkeypatch.setattr(xner.report.card, "load_config", {"owner/name": config}.__getitem__)
    carry_card("owner/name", tmp_path, section="## Export", usage=None, same_predictions=True)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "# owner/name" in text
    assert "of the types PER in text" in text


@pytest.mark.parametrize("block", ["a: [", "model-index: 3", "model-index: [{name: a, results: [{task: 1}]}]", "- a"])
def test_damaged_card(tmp_path: Path, block: str) -> None:
    """A card whose metadata cannot be read is named."""
    (tmp_path / "README.md").write_text(f"---\n{block}\n---\n# A model\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"(?s)README\.md is damaged .*; restore it, or delete it"):
        read_card(str(tmp_path))
