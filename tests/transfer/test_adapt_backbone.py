"""The backbone adapted to raw sentences before the source stage; the tags of these sentences are never read."""

import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM

from tests import backbones
from tests.cli.fits import assert_equal_weights, assert_other_weights, weights
from tests.commands import Run, assert_one_line, result_of, results
from tests.sources import write_source
from tests.transfer.test_restart import REPOSITORY, assert_same_run, run, transfer
from xner.backbone.tokenizer import load_tokenizer
from xner.batch import Batch
from xner.cli.main import main
from xner.data.datamodule import PanxDataModule
from xner.data.masking import mask_pieces
from xner.errors import RunError, UserError
from xner.model.classifier import TokenClassifier
from xner.model.masked import MaskedLanguageModel, MaskedNetwork, perplexity
from xner.tags import IGNORE
from xner.transfer.definition import Definition, define
from xner.transfer.experiment import Experiment
from xner.transfer.options import FewShot, TransferOptions
from xner.transfer.plan import Stage, plan
from xner.transfer.pretraining import Pretraining, mask_text

CPU = torch.device("cpu")
ADAPTED = "adapted-tr-seed42"
EMBEDDING = "roberta.embeddings.word_embeddings.weight"


def adapting(root: Path, backbone: str, *options: str) -> list[str]:
    return [
        *transfer(root, backbone, "--sizes=[20]", "--regimes=[scratch]", "--keep=all", "--adapt_backbone=target"),
        *("--pretraining.max_epochs=2", "--pretraining.learning_rate=5e-3", *options),
    ]


def stage_of(root: Path, stage: str = ADAPTED) -> Path:
    return root / "stages" / stage


@pytest.fixture(scope="module")
def adapted(tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an experiment that adapts the backbone to the sample's Turkish sentences."""
    root = tmp_path_factory.mktemp("adapted")
    main(adapting(root, tiny_backbone))
    return root


def text(backbone: str, source: Path | str = "sample", **options: Any) -> PanxDataModule:  # noqa: ANN401
    """A data module of masked Turkish sentences."""
    data = PanxDataModule(**{"source": str(source), "languages": ["tr"], "backbone": backbone, **options})
    mask_text(data, Pretraining())
    return data


def test_tags_are_never_read(tiny_backbone: str, tmp_path: Path) -> None:
    """With noise of the same types in place of the tags of all target splits, weights are the same to the bit."""
    gold = write_source(tmp_path / "gold", {"train": 60, "validation": 40, "test": 40})
    noise = Path(shutil.copytree(gold, tmp_path / "noise"))
    draw = random.Random(1)
    for path in (noise / "tr").iterdir():
        content = path.read_text(encoding="utf-8")
        tags = sorted({*re.findall(r"\t(.+)", content)})
        path.write_text(re.sub(r"\t.+", lambda _, tags=tags: f"\t{draw.choice(tags)}", content), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != content
    for source in (gold, noise):
        main([*adapting(tmp_path / f"{source.name} run", tiny_backbone), f"--data.source={source}"])
    runs = tmp_path / "gold run", tmp_path / "noise run"
    assert_equal_weights(*map(stage_of, runs))
    one, other = (result_of(each, ADAPTED) for each in runs)
    # The source is another folder, which the lineage names, a file of the model folder.
    ignored = {"lineage", "model", "seconds"}
    assert {k: v for k, v in one.items() if k not in ignored} == {k: v for k, v in other.items() if k not in ignored}
    assert_other_weights(*(stage_of(root, "scratch-tr-20-seed42") for root in runs))


@pytest.mark.slow
def test_interrupted(adapted: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """Stopped within an epoch and killed before its result, the stage ends as an undisturbed one."""
    command = adapting(tmp_path / "cut", tiny_backbone)
    # Turkish has 600 sentences, so an epoch has 19 steps.
    code, _, line = run(("step", 25, signal.SIGTERM), command)
    assert (code, line) == (143, "xner: error: stopped: the same command continues from here")
    assert (stage_of(tmp_path / "cut") / "checkpoints" / "last.ckpt").is_file()
    code, _, _ = run(("model", 1, signal.SIGKILL), command)
    assert code == -signal.SIGKILL
    assert (stage_of(tmp_path / "cut") / "model").is_dir()
    assert not (stage_of(tmp_path / "cut") / "result.json").exists()
    code, out, line = run(("", 0, 0), command)
    assert code == 0, line
    assert re.search(r"\[1/3\] adapted-tr-seed42: perplexity [\d.]+ before, [\d.]+ after in \d+ s; ", out)
    assert_same_run(tmp_path / "cut", adapted)
    assert result_of(tmp_path / "cut", ADAPTED)["perplexity"] == result_of(adapted, ADAPTED)["perplexity"]


def test_result(adapted: Path, tiny_backbone: str) -> None:
    """Perplexity falls from that of a random head, and the target's scores are label-free but not zero-shot."""
    found = result_of(adapted, ADAPTED)
    assert (found["train_samples"], found["target_samples"], found["evaluations"]) == (600, 0, [])
    assert found["left_out"] == {"in_test": 0, "unsure": 0}
    perplexities = found["perplexity"]
    assert perplexities["after"] < perplexities["before"] / 2
    pieces = len(text(tiny_backbone).used_pieces())
    assert perplexities["before"] == pytest.approx(pieces, rel=0.1)
    [episode] = found["lineage"]["episodes"]
    assert (episode["language"], episode["split"], episode["sentences"]) == ("tr", "train", 600)
    assert (episode["labels"], episode["training"], episode["types"]) == ("none", "masked language modelling", [])
    rows = {(row["stage"].partition("-")[0], row["eval_language"]): row for row in results(adapted)}
    notes = {place: (row["start_from"], row["zero_shot"], row["label_free"]) for place, row in rows.items()}
    assert notes == {
        ("source", "en"): (ADAPTED, "False", "False"),
        ("source", "tr"): (ADAPTED, "False", "True"),
        ("scratch", "en"): (ADAPTED, "True", "True"),
        ("scratch", "tr"): (ADAPTED, "False", "False"),
    }
    page = (adapted / "report.html").read_text(encoding="utf-8")
    assert "Turkish 600, masked subwords" in page
    assert "masked language modelling" in page
    assert "label-free (not zero-shot)" in page


def test_model_folder(adapted: Path, tiny_backbone: str) -> None:
    """The folder is one of transformers, with a tied head; rows of other subwords have decayed, but are not trained."""
    folder = stage_of(adapted) / "model"
    network, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not {*info["missing_keys"], *info["unexpected_keys"]}
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    [before] = (each for name, each in load_file(f"{tiny_backbone}/model.safetensors").items() if "word_emb" in name)
    others = torch.ones(len(before), dtype=torch.bool)
    others[text(tiny_backbone).used_pieces()] = False
    assert 0 < others.sum() < len(before)
    ratio = weights(stage_of(adapted))[EMBEDDING][others] / before[others]
    # 38 steps of a rate that falls linearly from 5e-3, with a weight decay of 0.01.
    decay = math.prod(1 - 5e-3 * (1 - step / 38) * 0.01 for step in range(38))
    torch.testing.assert_close(ratio, torch.full_like(ratio, decay), rtol=1e-5, atol=0)
    assert not network.lm_head.bias[others].any()


def test_whole_vocabulary(adapted: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """Training all embedding rows gives the same weights and perplexities, as does a row per sentence."""
    options = ["--model.compact_vocabulary=false", "--sizes=[10]", "--regimes=[progressive]"]
    main(adapting(tmp_path, tiny_backbone, *options))
    one, other = weights(stage_of(tmp_path)), weights(stage_of(adapted))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)
    assert result_of(tmp_path, ADAPTED)["perplexity"] == pytest.approx(
        result_of(adapted, ADAPTED)["perplexity"], rel=1e-4
    )


@pytest.mark.parametrize("compact", [True, False])
def test_loss_of_transformers(sample_backbone: str, compact: bool) -> None:
    """The loss and gradient of packed sentences are those of padded ones in transformers, among the same pieces."""
    data = text(sample_backbone)
    used = torch.from_numpy(data.used_pieces())
    network = MaskedNetwork(sample_backbone, used).eval()
    network.begin_training(used if compact else None)
    batch: Batch = next(iter(data.train_dataloader()))
    assert len(batch.pieces) < len(batch.sentences) == 32
    labelled = (batch.labels.flatten() != IGNORE).nonzero()[:, 0]
    assert len(labelled) == int(batch.step_words) > 32
    logits = network(batch, labelled)
    loss = cross_entropy(logits, batch.labels.flatten()[labelled])
    loss.backward()

    plain = AutoModelForMaskedLM.from_pretrained(sample_backbone, dtype=torch.float32)
    windows = [
        (row[where], labels[where])
        for row, labels, numbers in zip(batch.pieces, batch.labels, batch.windows, strict=True)
        for where in (numbers == number for number in numbers.unique() if number > 0)
    ]
    pieces, labels = (
        torch.nn.utils.rnn.pad_sequence(list(each), batch_first=True, padding_value=padding)
        for each, padding in zip(zip(*windows, strict=True), (1, IGNORE), strict=True)
    )
    # A piece that the masking put in place of another may be that of padding.
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(each), dtype=torch.long) for each, _ in windows], True)
    positions = torch.arange(pieces.shape[1])[None] + 2
    padded = plain(input_ids=pieces, attention_mask=mask, position_ids=positions.expand_as(pieces))
    due = cross_entropy(padded.logits[..., used].flatten(0, 1), labels.flatten())
    due.backward()
    torch.testing.assert_close(loss, due, rtol=1e-5, atol=1e-5)
    rows = network.model.get_input_embeddings()
    assert isinstance(rows.weight, torch.nn.Parameter)
    assert rows.weight.grad is not None
    found = rows.weight.grad[: len(used)] if compact else rows.weight.grad[used]
    torch.testing.assert_close(found, plain.get_input_embeddings().weight.grad[used], rtol=1e-4, atol=1e-6)


def test_perplexity_of_transformers(sample_backbone: str) -> None:
    """The perplexity is that of transformers' network, one sentence at a time."""
    data = text(sample_backbone)
    used = torch.from_numpy(data.used_pieces())
    [split] = data.validation_splits()
    some = np.arange(25)
    found = perplexity(MaskedNetwork(sample_backbone, used), data.batches_of(split, some), CPU)
    plain = AutoModelForMaskedLM.from_pretrained(sample_backbone, dtype=torch.float32).eval()
    losses = []
    for sentence in some:
        [batch] = data.batches_of(split, np.array([sentence]))
        with torch.no_grad():
            logits = plain(input_ids=batch.pieces[batch.windows > 0][None]).logits[0, :, used]
        losses += cross_entropy(logits[batch.word_piece], batch.word_label, reduction="none").tolist()
    assert found == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)


def test_masks(sample_backbone: str) -> None:
    """As many pieces as asked for are masked, no special token is, and random pieces are ones that occur."""
    data = text(sample_backbone)
    tokenizer, used = load_tokenizer(sample_backbone), data.used_pieces()
    plain = data.encoded(data.training_split("tr"))

    def masked(*seed: int) -> Any:  # noqa: ANN401 - Encoded
        return mask_pieces(plain, used, tokenizer, probability=0.3, seed=seed)

    one, again, other = masked(1, 0), masked(1, 0), masked(1, 1)
    assert (one.pieces == again.pieces).all()
    assert one.word_piece.tolist() != other.word_piece.tolist()
    special = np.isin(plain.pieces, tokenizer.all_special_ids)
    assert not special[one.word_piece].any()
    assert len(one.word_piece) / (~special).sum() == pytest.approx(0.3, abs=0.02)
    assert (used[one.word_label] == plain.pieces[one.word_piece]).all()
    assert (one.labels[one.word_piece] == one.word_label).all()
    assert (one.labels != IGNORE).sum() == len(one.word_piece) == one.sentence_labelled.sum()
    shown = one.pieces[one.word_piece]
    assert (shown == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.03)
    assert (shown == plain.pieces[one.word_piece]).mean() == pytest.approx(0.1, abs=0.03)
    assert np.isin(shown, used).all()
    untouched = np.delete(one.pieces, one.word_piece)
    assert (untouched == np.delete(plain.pieces, one.word_piece)).all()


def test_masks_change_with_the_epoch(sample_backbone: str) -> None:
    """Each epoch masks other pieces, the same for every number of processes."""
    data = text(sample_backbone)
    loader = data.train_dataloader()
    sampler: Any = loader.sampler
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        batches = {int(number): batch for batch in loader for number in batch.sentences[:1]}
        epochs.append({number: batch.pieces for number, batch in batches.items()})
    assert all(torch.equal(epochs[0][number], epochs[2][number]) for number in epochs[0])
    tokens = [sum(int((each == 1799).sum()) for each in epoch.values()) for epoch in epochs]
    assert tokens[0] != tokens[1]


def test_sentences_of_a_test_split(tiny_backbone: str, tmp_path: Path) -> None:
    """Sentences that occur verbatim in any evaluated test split are left out, unless they are asked for."""
    source = write_source(tmp_path / "source", {"train": 60, "validation": 40, "test": 40})
    sentences = (source / "tr" / "train.tsv").read_text(encoding="utf-8").strip().split("\n\n")
    words = [re.sub(r"\t.+", "", each) for each in sentences]
    for language, own in {"en": sentences[:2], "tr": sentences[7:9]}.items():
        # With other tags, a sentence is the same.
        content = "\n\n".join(re.sub(r"\t.+", "\tO", each) for each in own) + "\n"
        (source / language / "test.tsv").write_text(content, encoding="utf-8")
    there = {number for number, each in enumerate(words) if each in {words[0], words[1], words[7], words[8]}}
    main([*adapting(tmp_path / "run", tiny_backbone), f"--data.source={source}"])
    found = result_of(tmp_path / "run", ADAPTED)
    assert found["left_out"] == {"in_test": len(there), "unsure": 0}
    assert found["train_samples"] == found["lineage"]["episodes"][0]["sentences"] == 60 - len(there)
    assert found["target_samples"] == 0
    data = PanxDataModule(source=str(source), languages=["tr"], test_languages=["en", "tr"], backbone=tiny_backbone)
    assert mask_text(data, Pretraining(leave_out_test=False)) == {"in_test": 0, "unsure": 0}
    assert len(data.training_sentences("tr")) == 60
    (source / "tr" / "test.tsv").write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    data = PanxDataModule(source=str(source), languages=["tr"], backbone=tiny_backbone)
    with pytest.raises(
        RunError, match=r"pretraining.leave_out_test=true leaves none of the 60 sentences of tr/train; "
    ):
        mask_text(data, Pretraining())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mbert", "mdeberta"])
def test_other_backbones(family: str, tmp_path: Path) -> None:
    """A backbone without a masked-language head gets a new one; one that cannot be packed is padded."""
    backbone = backbones.make(family, tmp_path / "backbone")
    main(adapting(tmp_path / "run", str(backbone), "--seeds=[1,2]", "--soup=true"))
    for seed in (1, 2):
        found = result_of(tmp_path / "run", f"adapted-tr-seed{seed}")["perplexity"]
        assert found["after"] < found["before"]
    assert result_of(tmp_path / "run", "source-en-soup")["evaluations"]
    assert not stage_of(tmp_path / "run", "adapted-tr-soup").exists()
    network, info = AutoModelForMaskedLM.from_pretrained(
        stage_of(tmp_path / "run", "adapted-tr-seed1") / "model", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


def test_callbacks_that_monitor_f1(tiny_backbone: str, tmp_path: Path) -> None:
    """A callback that waits for a score does not see the stage, which has none; nor does the choice of the best."""
    stop = ["--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/f1"]
    main(adapting(tmp_path, tiny_backbone, *stop, "--trainer.callbacks.mode=max", "--select=best"))
    assert "perplexity" in result_of(tmp_path, ADAPTED)


@pytest.mark.slow
def test_two_processes(still_backbone: Path, tmp_path: Path) -> None:
    """Two processes train as one with batches of twice as many sentences, without dropout."""
    for name, options in {"one": ["16"], "two": ["8", "--trainer.strategy=ddp", "--trainer.devices=2"]}.items():
        command = adapting(tmp_path / name, str(still_backbone), "--data.batch_size", *options)
        subprocess.run([sys.executable, "train.py", *command], cwd=REPOSITORY, check=True)
    one, two = (weights(stage_of(tmp_path / name)) for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-2, atol=1e-3)
    one_result, two_result = (result_of(tmp_path / name, ADAPTED) for name in ("one", "two"))
    assert one_result["perplexity"] == pytest.approx(two_result["perplexity"], rel=1e-3)


class TestPlan:
    @staticmethod
    def stages(**options: Any) -> dict[str, Stage]:  # noqa: ANN401 - plan's
        found = plan(**{"source": "en", "target": "tr", "sizes": [10], **options})
        return {stage.id: stage for stage in found}

    def test_starts(self) -> None:
        """Every stage that would start from the backbone starts from the adapted one of its seed."""
        regimes = ["progressive", "independent", "scratch", "joint", "self_training"]
        stages = self.stages(adapt_backbone="target", target=["tr", "fi"], regimes=regimes, seeds=[1, 2], soup=True)
        first, *_ = stages.values()
        assert (first.id, first.train, first.parent) == ("adapted-tr+fi-seed1", (("tr", None), ("fi", None)), None)
        for seed in (1, 2):
            adapted, source = f"adapted-tr+fi-seed{seed}", f"source-en-seed{seed}"
            starts = {regime: stages[f"{regime}-fi-10-seed{seed}"].parent for regime in regimes}
            assert starts == dict.fromkeys(regimes, source) | {"scratch": adapted, "joint": adapted}
            assert stages[source].parent == adapted
        heads = {name.partition("-")[0] for name, stage in stages.items() if stage.starts_head and not stage.averages}
        assert heads == {"source", "scratch", "joint"}
        assert not any(stage.regime == "soup-adapted" for stage in stages.values())

    def test_both(self) -> None:
        """The sentences of sources and targets are trained on together."""
        stages = self.stages(adapt_backbone="both", source=["en", "de"])
        assert [*stages][:2] == ["adapted-en+de+tr-seed42", "source-en+de-seed42"]

    def test_nothing(self) -> None:
        """Without the option, there is no such stage."""
        assert self.stages()["source-en-seed42"].parent is None


class TestDefinition:
    @staticmethod
    def definitions(
        adapt: Any = "target", digests: str = "0a", regimes: Sequence[str] = ("scratch",), **options: Any  # noqa: ANN401
    ) -> dict[str, Definition]:  # fmt: skip
        """Define the stages of an experiment; the digests are those of splits that are read with their tags."""
        chosen = Pretraining(**options)
        names = {f"{each}{end}": end for each in ("train", "validation", "test") for end in ("", " (words)")}
        experiment = Experiment(
            root=Path("run"), evaluated=["en", "tr"], backbone="sample", backbone_digest="0b", train_split="train",
            stages=plan(source="en", target="tr", sizes=[10], regimes=regimes, adapt_backbone=adapt),
            options={"pretraining": asdict(chosen), "adapt_backbone": adapt, "model.freeze": None},
            test_split="test", types=["PER"], few_shot=FewShot(), epochs={}, batch_sentences=32, work={},
            digests={f"{each}/{name}": "0a" if end else digests
                     for each in ("en", "tr") for name, end in names.items()},
            pretraining=chosen,
        )  # fmt: skip
        return define(experiment)

    @pytest.mark.parametrize(
        ("option", "value"),
        [("learning_rate", None), ("max_epochs", 7), ("mask_probability", 0.4), ("leave_out_test", False)],
    )
    def test_options_count(self, option: str, value: object) -> None:
        """Each option is part of what defines the adapted stage, and so changes those that start from it."""
        one, other = self.definitions(), self.definitions(**{option: value})
        differ = "sentences of en/test|pretraining.leave_out_test" if option == "leave_out_test" else option
        with pytest.raises(UserError, match=differ):
            other[ADAPTED].check_same(asdict(one[ADAPTED]), Path("stage"))
        assert one["source-en-seed42"].start_from == one[ADAPTED].fingerprint
        assert {name for name in one if one[name].fingerprint != other[name].fingerprint} == {*one}

    def test_experiments_without_the_option(self) -> None:
        """Its options are no part of other experiments, whose definitions have the fields that they had."""
        one, other = self.definitions(None), self.definitions(None, max_epochs=9)
        assert one == other
        assert one["source-en-seed42"].options == {"model.freeze": None}
        assert not any("words" in name for each in one.values() for name in each.sentences)

    def test_tags_do_not_count(self) -> None:
        """The stage is defined by the words of its sentences."""
        assert self.definitions()[ADAPTED] == self.definitions(digests="0c")[ADAPTED]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            Pretraining(learning_rate=0.0),
            "pretraining.learning_rate=0.0 is not a positive number; use one such as 5e-5",
        ),
        (Pretraining(max_epochs=0), "pretraining.max_epochs=0 is not positive; use 1 or more"),
        (Pretraining(mask_probability=0.0), "pretraining.mask_probability=0.0 is not between 0 and 1; use 0.15"),
        (Pretraining(mask_probability=1.0), "pretraining.mask_probability=1.0 is not between 0 and 1; use 0.15"),
    ],
)
def test_mistakes(options: Pretraining, expected: str) -> None:
    """An option out of its range is one line."""
    with pytest.raises(UserError) as caught:
        TransferOptions(pretraining=options).check(epochs=3)
    assert str(caught.value).startswith(expected)


def test_refused(run: Run, tiny_backbone: str, scored_backbone: Path, source: Path, tmp_path: Path) -> None:
    """What cannot be adapted is refused in one line, before anything is written."""
    root = tmp_path / "root"

    def refused(backbone: object, *options: str) -> Any:  # noqa: ANN401 - Outcome
        return run(*adapting(root, str(backbone), f"--data.source={source}", *options))

    assert_one_line(refused(tiny_backbone, "--adapt_backbone=source"), 2, "adapt_backbone", "source")
    assert_one_line(
        refused(tiny_backbone, "--model.lora.rank=2"), 2, "adapt_backbone=target is not possible with model.lora"
    )
    line = f"adapt_backbone=target is not possible with model.backbone='{scored_backbone}', whose head for tags"
    assert_one_line(refused(scored_backbone), 2, line, "model.new_head=true")
    assert_one_line(refused(tiny_backbone, "--target=xx"), 2, "xx")
    untied = Path(shutil.copytree(tiny_backbone, tmp_path / "untied"))
    config = json.loads((untied / "config.json").read_text(encoding="utf-8"))
    (untied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}), encoding="utf-8")
    assert_one_line(refused(untied), 2, "is not a masked language model whose head is tied to its embeddings")
    maskless = Path(shutil.copytree(tiny_backbone, tmp_path / "maskless"))
    tokenizer = json.loads((maskless / "tokenizer_config.json").read_text(encoding="utf-8"))
    (maskless / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": tokenizer["pad_token"]}),
        encoding="utf-8",
    )
    assert_one_line(refused(maskless), 2, f"model.backbone='{maskless}' has no mask token; use another one")
    assert not root.exists()


def test_plan_is_shown(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """The plan has the stage, with its own number of epochs."""
    shown = run(*adapting(tmp_path / "root", tiny_backbone), "--plan").out
    assert re.search(r"adapted-tr-seed42 +\S+ +tr 600, masked subwords +38\n", shown)
    assert re.search(r"source-en-seed42 +adapted-tr-seed42 +en 600 +38\n", shown)


def test_like(tiny_backbone: str) -> None:
    """The model has the options of a classifier that say how it is trained, and no entity types of its own."""
    classifier = TokenClassifier(backbone=tiny_backbone, weight_decay=0.5, schedule="cosine", freeze="embeddings")
    model = MaskedLanguageModel.like(classifier, torch.arange(5))
    assert {name: model.hparams[name] for name in model.hparams} == dict(classifier.hparams)
    model.configure_model()
    assert not model.network.model.get_input_embeddings().weight.requires_grad
