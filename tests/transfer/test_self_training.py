"""Self-training: labels come from a teacher, and the tags of the target sentences are never read for training."""

import csv
import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import xner.transfer.training
from tests.cli.fits import assert_equal_weights, assert_other_weights
from tests.commands import result_of, results
from tests.model.tiny import quiet_trainer
from tests.sources import write_source
from tests.transfer.test_restart import REPOSITORY, assert_same_run, run, transfer
from xner.cli.main import main
from xner.data.datamodule import PanxDataModule
from xner.data.pseudo_labels import PseudoLabels
from xner.data.subset import Selection
from xner.errors import RunError, UserError
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_predict
from xner.model.network import Network
from xner.tags import invalid_tags
from xner.transfer.definition import Definition, define
from xner.transfer.experiment import Experiment
from xner.transfer.options import FewShot, TransferOptions
from xner.transfer.plan import plan
from xner.transfer.result import LeftOut
from xner.transfer.self_training import SelfTraining, label_sentences

CPU = torch.device("cpu")
STUDENT = "self_training-tr-20-seed42"


def self_training(root: Path, backbone: str, *options: str) -> list[str]:
    return [*transfer(root, backbone, "--sizes=[20]", "--regimes=[self_training]", "--keep=all"), *options]


def student(root: Path) -> Path:
    return root / "stages" / STUDENT


@pytest.fixture(scope="module")
def teacher(tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an experiment with its defaults, whose source stage has been a teacher."""
    root = tmp_path_factory.mktemp("teacher")
    main(self_training(root, tiny_backbone))
    return root


@pytest.fixture
def source_model(teacher: Path) -> str:
    return str(teacher / "stages" / "source-en-seed42" / "model")


def unlabelled(backbone: str, source: Path | str = "sample", **options: Any) -> PanxDataModule:  # noqa: ANN401
    data = PanxDataModule(source=str(source), languages=["tr"], backbone=backbone, **options)
    data.labels = "predicted"
    return data


def label(model: str, data: PanxDataModule, **options: Any) -> tuple[PseudoLabels, LeftOut]:  # noqa: ANN401
    return label_sentences(Network(model, data.tag_set), data, SelfTraining(**options), CPU)


def lowest_probabilities(labels: PseudoLabels, data: PanxDataModule) -> list[float]:
    """The probability of the least certain word of each sentence."""
    assert labels.probabilities is not None
    start = data.encoded(data.training_split("tr")).sentence_word
    return [float(labels.probabilities[start[each] : start[each + 1]].max(axis=1).min()) for each in labels.sentences]


@pytest.mark.parametrize("labels", ["hard", pytest.param("soft", marks=pytest.mark.slow)])
def test_gold_tags_are_never_read(tiny_backbone: str, tmp_path: Path, labels: str) -> None:
    """With noise of the same types in place of the tags of the target sentences, weights are the same to the bit."""
    gold = write_source(tmp_path / "gold", {"train": 60, "validation": 40, "test": 40})
    noise = Path(shutil.copytree(gold, tmp_path / "noise"))
    path, draw = noise / "tr" / "train.tsv", random.Random(1)
    text = path.read_text(encoding="utf-8")
    tags = sorted({*re.findall(r"\t(.+)", text)})
    path.write_text(re.sub(r"\t.+", lambda _: f"\t{draw.choice(tags)}", text), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    for source in (gold, noise):
        command = self_training(tmp_path / f"{source.name} run", tiny_backbone, "--regimes=[self_training,independent]")
        main([*command, f"--data.source={source}", f"--self_training.labels={labels}", "--self_training.rounds=2"])
    runs = tmp_path / "gold run", tmp_path / "noise run"
    assert_equal_weights(student(runs[0]), student(runs[1]))
    one, other = (result_of(each, STUDENT) for each in runs)
    # The source is another folder, which the lineage names, a file of the model folder.
    ignored = {"lineage", "model", "seconds"}
    assert {k: v for k, v in one.items() if k not in ignored} == {k: v for k, v in other.items() if k not in ignored}
    supervised = "independent-tr-20-seed42"
    assert_other_weights(*(root / "stages" / supervised for root in runs))
    assert_other_weights(student(runs[0]), runs[0] / "stages" / supervised)


def test_labels_are_the_teachers_predictions(source_model: str) -> None:
    """Labels and probabilities are those of a prediction by Lightning's Trainer; each sentence has all of its words."""
    data = unlabelled(source_model, num_samples=50)
    labels, left_out = label(source_model, data, labels="soft")
    assert left_out == {"in_test": 0, "unsure": 0}
    assert labels.sentences.tolist() == data.choose("tr", Selection(num_samples=50)).tolist()
    model = TokenClassifier(backbone=source_model)
    [expected] = run_predict(quiet_trainer(), model, PanxDataModule(
        source="sample", languages=["tr"], split="train", backbone=source_model
    ))  # fmt: skip
    encoded = data.encoded(data.training_split("tr"))
    words, _ = encoded.words_of(np.sort(labels.sentences))
    chosen = np.isin(expected.sentence.numpy(), labels.sentences)
    assert labels.labels[words].tolist() == expected.predicted[chosen].tolist()
    assert labels.probabilities is not None
    found = labels.probabilities[words]
    np.testing.assert_allclose(found.max(axis=1), expected.score.numpy()[chosen], rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    hard, _ = label(source_model, data)
    assert hard.probabilities is None
    assert (hard.labels == labels.labels).all()


def test_confidence(source_model: str) -> None:
    """A sentence is kept if its least certain word reaches the threshold, and the order stays that of the subset."""
    data = unlabelled(source_model, num_samples=50)
    every, _ = label(source_model, data, labels="soft")
    lowest = lowest_probabilities(every, data)
    threshold = float(sorted(lowest)[20])  # of a sentence, which reaches it
    some, left_out = label(source_model, data, confidence=threshold)
    kept = [each for each, low in zip(every.sentences.tolist(), lowest, strict=True) if low >= threshold]
    assert some.sentences.tolist() == kept
    assert left_out == {"in_test": 0, "unsure": 50 - len(kept)}
    assert 0 < len(kept) <= 30
    with pytest.raises(RunError, match=r"self_training.confidence=1.0 leaves none of the 50 sentences of tr/train"):
        label(source_model, data, confidence=1.0)


def test_decoding(source_model: str) -> None:
    """With Viterbi decoding, labels are legal, and the confidence in a sentence is that in its labels."""
    data = unlabelled(source_model, num_samples=50)
    network = Network(source_model, data.tag_set, decoding="viterbi")
    torch.nn.init.normal_(network.model.classifier.weight)  # whose best labels are often illegal
    labels, _ = label_sentences(network, data, SelfTraining(labels="soft"), CPU)
    assert labels.probabilities is not None
    encoded = data.encoded(data.training_split("tr"))
    lowest, below = [], 0
    for sentence in labels.sentences:
        words, _ = encoded.words_of(np.array([sentence]))
        assert invalid_tags([data.tag_set.tags[label] for label in labels.labels[words]]) == 0
        chosen = labels.probabilities[words, labels.labels[words]]
        below += int((chosen < labels.probabilities[words].max(axis=1)).sum())
        lowest.append(float(chosen.min()))
    assert below > 10
    threshold = sorted(lowest)[20]
    confident, left_out = label_sentences(network, data, SelfTraining(confidence=threshold), CPU)
    assert left_out == {"in_test": 0, "unsure": sum(each < threshold for each in lowest)}
    assert len(confident.sentences) == sum(each >= threshold for each in lowest)


def test_sentences_of_a_test_split(source_model: str, tmp_path: Path) -> None:
    """Training sentences that occur verbatim in any evaluated test split are left out, unless they are asked for."""
    source = write_source(tmp_path / "source", {"train": 60, "validation": 40, "test": 40}, ["en", "tr", "de"])
    sentences = (source / "tr" / "train.tsv").read_text(encoding="utf-8").strip().split("\n\n")
    tests = {"en": sentences[:3], "de": ["Merhaba\tO"], "tr": sentences[7:9]}
    for language, own in tests.items():
        # With other tags, a sentence is the same.
        text = "\n\n".join(re.sub(r"\t.+", "\tO", each) for each in own) + "\n"
        (source / language / "test.tsv").write_text(text, encoding="utf-8")
    data = unlabelled(source_model, source, test_languages=["de", "en", "tr"])
    labels, left_out = label(source_model, data)
    words = [re.sub(r"\t.+", "", each) for each in sentences]
    there = {number for number, each in enumerate(words) if each in {words[0], words[1], words[2], words[7], words[8]}}
    assert {*range(60)} - {*labels.sentences.tolist()} == there
    assert left_out == {"in_test": len(there), "unsure": 0}
    labels, left_out = label(source_model, data, leave_out_test=False)
    assert sorted(labels.sentences) == [*range(60)]
    assert left_out == {"in_test": 0, "unsure": 0}


def test_result(teacher: Path) -> None:
    """The scores on the target are label-free but not zero-shot, and the record of the weights says why."""
    found = result_of(teacher, STUDENT)
    assert found["start_from"] == "source-en-seed42"
    assert (found["train_samples"], found["target_samples"], found["left_out"]) == (20, 20, {"in_test": 0, "unsure": 0})
    episodes = found["lineage"]["episodes"]
    assert [(each["language"], each["labels"]) for each in episodes] == [("en", "gold"), ("tr", "predicted")]
    rows = {(row["stage"].partition("-")[0], row["eval_language"]): row for row in results(teacher)}
    notes = {place: (row["zero_shot"], row["label_free"]) for place, row in rows.items()}
    assert notes == {
        ("source", "en"): ("False", "False"),
        ("source", "tr"): ("True", "True"),
        ("self_training", "en"): ("False", "False"),
        ("self_training", "tr"): ("False", "True"),
    }
    page = (teacher / "report.html").read_text(encoding="utf-8")
    assert "20, predicted labels" in page


def test_what_is_left_out_is_kept(
    tiny_backbone: str, source_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of sentences left out is logged and in the result; the place on the curve is that of all."""
    data = unlabelled(source_model, num_samples=20)
    lowest = sorted(lowest_probabilities(label(source_model, data, labels="soft")[0], data))
    threshold = (lowest[9] + lowest[10]) / 2
    command = self_training(tmp_path, tiny_backbone, f"--self_training.confidence={threshold}")
    main([*command, "--self_training.labels=soft", "--regimes=[progressive,self_training]"])
    found = result_of(tmp_path, STUDENT)
    assert found["left_out"] == {"in_test": 0, "unsure": 10}
    assert (found["train_samples"], found["target_samples"]) == (10, 20)
    assert found["lineage"]["episodes"][-1]["sentences"] == 10
    [told] = [each for each in caplog.messages if each.startswith(STUDENT)]
    assert told.startswith(f"{STUDENT}: 10 sentences are labelled by source-en-seed42; 0 are left out because")
    assert told.endswith(f"10 are below self_training.confidence={threshold}")


def test_steps_of_what_is_left(tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer sentences than were planned for are trained on for more epochs, until there are enough steps."""

    def labelling(network: Network, data: PanxDataModule, *rest: object) -> tuple[PseudoLabels, LeftOut]:
        labels, left_out = label_sentences(network, data, *rest)
        return replace(labels, sentences=labels.sentences[:10]), {**left_out, "unsure": 10}

    monkeypatch.setattr(xner.transfer.training, "label_sentences", labelling)
    # Batches of 8 are 3 steps per epoch of 20 sentences, and 2 of the 10 that are left.
    main(
        [
            *self_training(tmp_path, tiny_backbone, "--few_shot.min_steps=12"),
            "--data.batch_size=8",
            "--trainer.logger=true",
        ]
    )
    [log] = student(tmp_path).rglob("metrics.csv")
    with log.open(encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["val/f1"]]
    assert len(steps) == 6
    assert steps[-1] + 1 == 12
    assert result_of(tmp_path, STUDENT)["max_epochs"] == 6


def test_soup_of_what_is_left(tiny_backbone: str, tmp_path: Path) -> None:
    """A soup of students counts the sentences that its first member was trained on."""
    main(self_training(tmp_path, tiny_backbone, "--self_training.confidence=0.216", "--seeds=[42,43]", "--soup=true"))
    first, soup = (result_of(tmp_path, f"self_training-tr-20-{end}") for end in ("seed42", "soup"))
    assert first["left_out"]["unsure"] > 0
    assert (soup["train_samples"], soup["target_samples"]) == (first["train_samples"], 20)


def test_plan_of_a_soup(tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan says of a soup of students what it says of its members: their labels are predicted."""
    main(self_training(tmp_path, tiny_backbone, "--seeds=[42,43]", "--soup=true", "--plan=true"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("self_training-")]
    assert len(lines) == 3
    assert all("tr 20, predicted labels" in line for line in lines)


def test_rounds(tiny_backbone: str, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher of the second round is the student of one round, and both students start from the source stage."""
    teachers: list[dict[str, torch.Tensor]] = []
    starts: list[str] = []
    work, fit = label_sentences, pl.Trainer.fit

    def labelling(network: Network, *rest: Any) -> tuple[PseudoLabels, LeftOut]:  # noqa: ANN401 - handed on
        teachers.append({name: value.clone() for name, value in network.model.state_dict().items()})
        return work(network, *rest)

    def fitting(trainer: pl.Trainer, model: TokenClassifier, *rest: Any, **options: Any) -> None:  # noqa: ANN401
        starts.append(Path(model.backbone_name).parent.name)
        fit(trainer, model, *rest, **options)

    monkeypatch.setattr(xner.transfer.training, "label_sentences", labelling)
    monkeypatch.setattr(pl.Trainer, "fit", fitting)
    main(self_training(tmp_path, tiny_backbone, "--self_training.rounds=2"))
    assert starts[1:] == ["source-en-seed42"] * 2
    for found, stage in zip(teachers, ["source-en-seed42", STUDENT], strict=True):
        due = load_file(teacher / "stages" / stage / "model" / "model.safetensors")
        assert {*due} <= {*found}
        assert [name for name in due if not torch.equal(due[name], found[name])] == []
    assert_other_weights(student(tmp_path), student(teacher))


@pytest.mark.slow
def test_interrupted(tiny_backbone: str, tmp_path: Path) -> None:
    """Killed in the first round, between the rounds and in the last one, a run ends as an undisturbed one."""
    options = ["--self_training.rounds=2", "--self_training.labels=soft", "--self_training.confidence=0.18"]
    main(self_training(tmp_path / "whole", tiny_backbone, *options))
    command = self_training(tmp_path / "cut", tiny_backbone, *options)
    # The source stage has 38 steps, and each round 2, one per epoch.
    code, _, line = run(("step", 39, signal.SIGTERM), command)
    assert (code, line) == (143, "xner: error: stopped: the same command continues from here")
    rounds = student(tmp_path / "cut") / "checkpoints"
    [checkpoint] = rounds.rglob("last.ckpt")
    assert checkpoint.parts[-3:] == ("round1", "checkpoints", "last.ckpt")
    code, _, _ = run(("model", 1, signal.SIGKILL), command)
    assert code == -signal.SIGKILL
    [model] = rounds.rglob("model.safetensors")
    assert model.parts[-3] == "round1"
    written = model.stat().st_mtime_ns
    code, _, _ = run(("step", 1, signal.SIGTERM), command)
    assert code == 143
    assert model.stat().st_mtime_ns == written
    code, _, line = run(("", 0, 0), command)
    assert code == 0, line
    assert not rounds.exists()
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes(still_backbone: Path, tmp_path: Path) -> None:
    """Two processes agree on the labels, and train as one with batches of twice as many sentences, without dropout."""
    for name, options in {"one": ["16"], "two": ["8", "--trainer.strategy=ddp", "--trainer.devices=2"]}.items():
        command = self_training(tmp_path / name, str(still_backbone), "--self_training.rounds=2")
        # Hard labels, because without dropout the first gradient of soft ones is zero, and Adam would scale its noise.
        command += ["--data.batch_size", *options]
        subprocess.run([sys.executable, "train.py", *command], cwd=REPOSITORY, check=True)
    assert result_of(tmp_path / "two", STUDENT)["left_out"] == result_of(tmp_path / "one", STUDENT)["left_out"]
    one, two = (load_file(student(tmp_path / name) / "model" / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-2, atol=1e-3)


class TestDefinition:
    @staticmethod
    def definitions(folder: Path, regimes: Sequence[str], digests: str = "0a", **options: Any) -> dict[str, Definition]:  # noqa: ANN401
        """Define the stages of an experiment; every option of the command is one of self-training."""
        chosen = SelfTraining(**options)
        names = ("train", "validation", "test", "train (words)")
        experiment = Experiment(
            root=folder, stages=plan(source="en", target="tr", sizes=[10], regimes=regimes), evaluated=["en", "tr"],
            options={"self_training": asdict(chosen)}, backbone="sample", backbone_digest="0b", train_split="train",
            test_split="test", types=["PER"], few_shot=FewShot(), epochs={}, batch_sentences=32, work={},
            self_training=chosen,
            digests={f"{language}/{name}": digests if name == "train" else "0a"
                     for language in ("en", "tr") for name in names},
        )  # fmt: skip
        return define(experiment)

    @pytest.mark.parametrize(
        ("option", "value"), [("labels", "soft"), ("confidence", 0.5), ("leave_out_test", False), ("rounds", 2)]
    )
    def test_options_count(self, tmp_path: Path, option: str, value: object) -> None:
        """Each option is part of what defines a stage of self-training, and of no other."""
        regimes = ["independent", "self_training"]
        one, other = self.definitions(tmp_path, regimes), self.definitions(tmp_path, regimes, **{option: value})
        with pytest.raises(UserError, match=rf"was run with self_training\.{option}="):
            other["self_training-tr-10-seed42"].check_same(asdict(one["self_training-tr-10-seed42"]), Path("stage"))
        for name in ("source-en-seed42", "independent-tr-10-seed42"):
            assert one[name] == other[name]

    def test_tags_do_not_count(self, tmp_path: Path) -> None:
        """A stage of self-training is defined by the words of its sentences, a supervised one by their tags as well."""
        regimes = ["scratch", "self_training"]
        one, other = (self.definitions(tmp_path, regimes, digests) for digests in ("0a", "0c"))
        own = (each["self_training-tr-10-seed42"].sentences for each in (one, other))
        assert next(own) == next(own)
        assert one["scratch-tr-10-seed42"] != other["scratch-tr-10-seed42"]


def test_shots_need_tags() -> None:
    """Entities per type cannot be counted without tags."""
    with pytest.raises(UserError) as caught:
        plan(source="en", target="tr", shots=[1, 4], regimes=["self_training"])
    assert str(caught.value) == "shots=[1, 4] is not possible with self_training, which reads no tags; use sizes"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"self_training": SelfTraining(confidence=-0.1)}, "self_training.confidence=-0.1 is not between 0 and 1; use"),
        ({"self_training": SelfTraining(confidence=1.01)}, "self_training.confidence=1.01 is not between 0 and 1; use"),
        ({"self_training": SelfTraining(rounds=0)}, "self_training.rounds=0 is not positive; use 1 or more"),
        ({"select": "best", "regimes": ["self_training"]}, "select=best is not possible with self_training, because"),
    ],
)
def test_mistakes(options: dict[str, Any], expected: str) -> None:
    """An option out of its range, and a selection by target tags, are one line each."""
    with pytest.raises(UserError) as caught:
        TransferOptions(**options).check(epochs=3)
    assert str(caught.value).startswith(expected)
    assert len(str(caught.value).splitlines()) == 1


def test_options_without_the_regime(teacher: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """The options have no effect on other regimes, which a run of other options shares."""
    root = Path(shutil.copytree(teacher, tmp_path / "run"))
    shutil.rmtree(student(root))
    before = json.loads((root / "stages" / "source-en-seed42" / "result.json").read_bytes())
    main(self_training(root, tiny_backbone, "--regimes=[independent]", "--self_training.labels=soft"))
    main(self_training(root, tiny_backbone, "--regimes=[self_training]", "--self_training.labels=soft"))
    assert json.loads((root / "stages" / "source-en-seed42" / "result.json").read_bytes()) == before
    assert_other_weights(student(root), student(teacher))
