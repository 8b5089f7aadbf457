import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import f1_score
from transformers import AutoModelForTokenClassification

from tests.sources import as_tsv, write_source
from xner.cli.main import main
from xner.data.characters import normalise_words
from xner.data.datamodule import PanxDataModule
from xner.data.pseudo_labels import PseudoLabels
from xner.data.sources import Sentences, Split
from xner.errors import RunError
from xner.lineage import FILE, NOTHING_SEEN, SEEN_FILE, read_history, trained_further
from xner.tags import TagSet, spans
from xner.transfer.result import read_counts, read_result


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English and Turkish, 40 sentences a split; 12 of Turkish test stand in Turkish train, with other tags."""
    folder = write_source(tmp_path_factory.mktemp("data") / "source", {"train": 40, "validation": 40, "test": 40})
    train, test = (Split(str(folder), "tr", name).sentences for name in ("train", "test"))
    unseen = [number for number, words in enumerate(test.words) if words not in train.words][:28]
    words = [*train.words[:12], *(test.words[number] for number in unseen)]
    tags = [[*reversed(each)] for each in train.tags[:12]] + [test.tags[number] for number in unseen]
    (folder / "tr" / "test.tsv").write_text(as_tsv(Sentences(words, tags)), encoding="utf-8")
    return folder


def command(name: str, source: Path, backbone: Path | str, root: Path, *options: str) -> list[str]:
    return [
        *(name, f"--data.source={source}", f"--model.backbone={backbone}", f"--trainer.default_root_dir={root}"),
        *("--model.learning_rate=5e-3", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
        *("--trainer.max_epochs=1", "--trainer.logger=false", *options),
    ]


def fit(source: Path, backbone: Path | str, root: Path, *options: str) -> Path:
    main(command("fit", source, backbone, root, *options))
    return root / "model"


def rows(root: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of ``results.csv`` by stage and language."""
    with (root / "results.csv").open(encoding="utf-8", newline="") as file:
        return {(row["stage"], row["eval_language"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def turkish(source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that was trained on Turkish, and then on English."""
    root = tmp_path_factory.mktemp("models")
    first = fit(source, tiny_backbone, root / "tr", "--data.languages=[tr]")
    return fit(source, first, root / "en", "--data.languages=[en]")


def test_contaminated_start(source: Path, turkish: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model fine-tuned on Turkish, then on English, is zero-shot on Turkish neither in test nor in transfer."""
    capsys.readouterr()
    main(command("test", source, turkish, tmp_path / "test", "--data.test_languages=[tr]"))
    told = capsys.readouterr().out
    assert "\ntr/test: F1 0." in told
    assert "zero-shot" not in told
    assert "\n12 of 40 test sentences occur verbatim in the training data; F1 on the others 0." in told

    root = tmp_path / "transfer"
    main(command("transfer", source, turkish, root, "--sizes=[10]"))
    found = rows(root)
    assert {row["zero_shot"] for row in found.values()} == {"False"}
    assert found["source-en-seed42", "tr"]["seen_sentences"] == "12"
    assert "zero-shot" not in capsys.readouterr().out
    assert "Not zero-shot." in (root / "report.html").read_text(encoding="utf-8")


def test_what_weights_have_seen(source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """Results count the evaluated sentences and words that any stage on the way trained on, and score the rest."""
    main(command("transfer", source, tiny_backbone, tmp_path, "--sizes=[10,40]", "--keep=all"))
    words = {name: Split(str(source), *name.split("/")).sentences.words for name in ("en/train", "tr/train", "tr/test")}
    tags = Split(str(source), "tr", "test").sentences.tags
    trained_tags = {name: Split(str(source), *name.split("/")).sentences.tags for name in ("en/train", "tr/train")}
    for stage, trained in (
        ("source-en-seed42", words["en/train"]),
        ("progressive-tr-40-seed42", words["en/train"] + words["tr/train"]),
    ):
        result = read_result(tmp_path / "stages" / stage)
        assert result
        [evaluation] = [each for each in result["evaluations"] if each["language"] == "tr"]
        counts = read_counts(tmp_path / "stages" / stage, evaluation)
        seen = [sentence in trained for sentence in words["tr/test"]]
        assert evaluation["seen_sentences"] == sum(seen) == (0 if stage.startswith("source") else 12)
        normal = [normalise_words(sentence) for sentence in trained]
        near = sum(normalise_words(sentence) in normal for sentence in words["tr/test"])
        assert evaluation["near_duplicates"] == near >= sum(seen)
        known = {word for sentence in trained for word in sentence}
        assert counts.word_seen.tolist() == [word in known for sentence in words["tr/test"] for word in sentence]
        predicted = np.split(counts.word_predicted, np.cumsum(counts.sentence_words)[:-1])
        pairs = [
            (gold, [TagSet(tuple(result["types"])).tags[label] for label in labels])
            for gold, labels, each in zip(tags, predicted, seen, strict=True)
            if not each
        ]
        assert evaluation["f1_unseen"] == f1_score(*map(list, zip(*pairs, strict=True)))
        assert evaluation["contaminated"] is False
        entities = {
            tuple(sentence[span.first : span.last + 1])
            for name in ("en/train", *(() if stage.startswith("source") else ("tr/train",)))
            for sentence, its in zip(words[name], trained_tags[name], strict=True)
            for span in spans(its)
        }
        for group in (True, False):
            correct = guessed = true = 0
            for sentence, gold, labels in zip(words["tr/test"], tags, predicted, strict=True):
                both = [
                    {each for each in spans(its) if (tuple(sentence[each.first : each.last + 1]) in entities) == group}
                    for its in (gold, [TagSet(tuple(result["types"])).tags[label] for label in labels])
                ]
                correct += len(both[0] & both[1])
                true, guessed = true + len(both[0]), guessed + len(both[1])
            found = evaluation["f1_seen_entities" if group else "f1_unseen_entities"]
            assert found == (pytest.approx(2 * correct / (true + guessed)) if true else None)
        assert evaluation["f1_unseen_entities"] is not None
        right = int((counts.word_gold == counts.word_predicted).sum())
        assert (counts.bin_words.sum(), counts.bin_right.sum()) == (evaluation["words"], right)
        gaps = abs(counts.bin_probability - counts.bin_right).sum() / evaluation["words"]
        assert evaluation["ece"] == pytest.approx(gaps, abs=5.1e-5)
    history = read_history(str(tmp_path / "stages" / "progressive-tr-40-seed42" / "model"))
    assert len(history.sentences) == len({tuple(each) for each in words["en/train"] + words["tr/train"]})


def test_training_on_an_evaluation_split(
    source: Path, tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training on test is refused unless it is asked for, and then every later score of these weights is marked."""
    wish = ["--data.languages=[tr]", "--data.train_split=test"]
    with pytest.raises(SystemExit, match="2"):
        fit(source, tiny_backbone, tmp_path / "refused", *wish)
    told = capsys.readouterr().err
    assert told.startswith("xner: error: ")
    assert "data.train_split='test' is an evaluation split; use 'train', or allow it with" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "refused").exists()

    spoilt = fit(source, tiny_backbone, tmp_path / "spoilt", *wish, "--data.train_on_evaluation=true")
    [episode] = read_history(str(spoilt)).lineage["episodes"]
    assert (episode["language"], episode["split"], episode["sentences"]) == ("tr", "test", 40)
    later = fit(source, spoilt, tmp_path / "later", "--data.languages=[en]")
    capsys.readouterr()
    main(command("test", source, later, tmp_path / "test", "--data.test_languages=[tr]"))
    told = capsys.readouterr().out
    assert "\n40 of 40 test sentences occur verbatim in the training data\n" in told
    assert "\ncontaminated: " in told

    main(command("transfer", source, later, tmp_path / "transfer", "--sizes=[10]"))
    assert {row["contaminated"] for row in rows(tmp_path / "transfer").values()} == {"True"}
    assert {row["f1_unseen"] for (_, language), row in rows(tmp_path / "transfer").items() if language == "tr"} == {""}
    assert "Contaminated." in (tmp_path / "transfer" / "report.html").read_text(encoding="utf-8")


def test_test_split_under_another_name(
    source: Path, tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that were trained on every sentence of a test split, in whatever folder, are contaminated on it."""
    folder = tmp_path / "data" / "xx"
    folder.mkdir(parents=True)
    shutil.copy(source / "tr" / "test.tsv", folder / "train.tsv")
    shutil.copy(source / "tr" / "validation.tsv", folder / "validation.tsv")
    model = fit(tmp_path / "data", tiny_backbone, tmp_path / "run", "--data.languages=[xx]")
    capsys.readouterr()
    main(command("test", source, model, tmp_path / "test", "--data.test_languages=[en,tr]"))
    english, turkish = capsys.readouterr().out.split("\ntr/test")
    assert "contaminated: " in turkish
    assert "contaminated: " not in english


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{")])
def test_lineage_without_sentences(turkish: Path, tmp_path: Path, spoil: object) -> None:
    """A lineage whose sentences are lost or damaged is told by the file: nothing could be said about overlaps."""
    shutil.copytree(turkish, tmp_path / "model")
    assert callable(spoil)
    spoil(tmp_path / "model" / SEEN_FILE)
    with pytest.raises(RunError) as caught:
        read_history(str(tmp_path / "model"))
    assert str(caught.value).startswith(f"{tmp_path / 'model' / SEEN_FILE} cannot be read")
    assert (tmp_path / "model" / FILE).is_file()


def test_weights_of_another_tool(turkish: Path, tmp_path: Path) -> None:
    """Weights that were trained further and saved into the same folder have not the lineage that lies there."""
    folder = Path(shutil.copytree(turkish, tmp_path / "model"))
    network = AutoModelForTokenClassification.from_pretrained(folder)
    network.save_pretrained(folder)
    assert read_history(str(folder)).lineage["episodes"], "the same weights, saved again"
    network.classifier.bias.data += 0.1
    network.save_pretrained(folder)
    with pytest.raises(RunError, match="does not describe the weights beside it") as caught:
        read_history(str(folder))
    assert str(caught.value).startswith(str(folder / FILE))
    (folder / FILE).unlink()
    (folder / SEEN_FILE).unlink()
    assert read_history(str(folder)).lineage["unrecorded"]


def test_sentences_without_lineage(turkish: Path, tmp_path: Path) -> None:
    """A model folder that lost its lineage does not pass for weights that were never trained."""
    shutil.copytree(turkish, tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    with pytest.raises(RunError, match="says that the weights were trained"):
        read_history(str(tmp_path / "model"))


def test_predicted_entities(source: Path) -> None:
    """The entities of a training on predicted labels are those of the labels, as they are with gold ones."""
    gold, student = (PanxDataModule(source=str(source), backbone="sample", languages=["tr"]) for _ in range(2))
    encoded, chosen = gold.encoded(gold.training_split("tr")), gold.training_sentences("tr")
    student.labels, student.pseudo_labels = "predicted", PseudoLabels(chosen, encoded.word_label)
    seen, predicted = (trained_further(NOTHING_SEEN, each, 0).entities for each in (gold, student))
    assert len(seen) > 3
    assert np.array_equal(seen, predicted)


def test_backbone_without_history(tiny_backbone: str) -> None:
    """A backbone has seen nothing."""
    history = read_history(tiny_backbone)
    assert history.lineage["episodes"] == []
    assert len(history.sentences) == len(history.words) == len(history.entities) == 0
