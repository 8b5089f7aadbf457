"""Stages that end with averaged weights, undisturbed and killed."""

import re
import shutil
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from safetensors.torch import load_file

from tests.commands import Run, assert_one_line, results
from tests.transfer.test_restart import assert_same_run, transfer
from tests.transfer.test_restart import run as run_process
from xner.cli.main import main
from xner.data.datamodule import PanxDataModule
from xner.lineage import read_history
from xner.report.analysis import analyse
from xner.report.runs import load_run
from xner.transfer.resume import ResumeCheckpoint

AVERAGED = ("--sizes=[40]", "--select=average", "--keep=all", "--model.weight_decay=0.5")


def test_average_of_epochs(tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage ends with the average of what its epochs ended with."""
    saved: dict[str, list[dict[str, torch.Tensor]]] = {}
    save = ResumeCheckpoint.on_train_epoch_end

    def noted(self: ResumeCheckpoint, trainer: object, pl_module: torch.nn.Module) -> None:
        save(self, trainer, pl_module)
        saved.setdefault(self.last.parts[-3], []).append({**pl_module.state_dict()})

    monkeypatch.setattr(ResumeCheckpoint, "on_train_epoch_end", noted)
    main(transfer(tmp_path / "whole", tiny_backbone, *AVERAGED))
    assert saved.keys() == {"source-en-seed42", "progressive-tr-40-seed42"}
    for stage, epochs in saved.items():
        found = load_file(tmp_path / "whole" / "stages" / stage / "model" / "model.safetensors")
        assert len(epochs) == 2
        for name, value in found.items():
            each = torch.stack([state[f"network.model.{name}"].double() for state in epochs])
            torch.testing.assert_close(value.double(), each.mean(dim=0), rtol=6e-8, atol=0)
        assert any(not torch.equal(value, epochs[-1][f"network.model.{name}"]) for name, value in found.items())


@pytest.mark.slow
def test_interrupted_average(tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The average of epochs is the same however often a stage is stopped."""
    main(transfer(tmp_path / "whole", tiny_backbone, *AVERAGED))
    # English has 600 sentences, so an epoch has 19 steps.
    command = transfer(tmp_path / "cut", tiny_backbone, *AVERAGED)
    assert run_process(("step", 29, signal.SIGTERM), command)[0] == 143
    assert run_process(("model", 1, signal.SIGKILL), command)[0] == -signal.SIGKILL
    assert run_process(("part of last.ckpt", 2, signal.SIGKILL), command)[0] == -signal.SIGKILL
    main(command)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    capsys.readouterr()


SOUP = ("--sizes=[20]", "--regimes=[progressive,joint]", "--seeds=[1,2]", "--soup=true", "--trainer.max_epochs=1")
TRAINED = [f"{name}-seed{seed}" for seed in (1, 2) for name in ("source-en", "progressive-tr-20", "joint-tr-20")]
SOUPS = ["source-en-soup", "progressive-tr-20-soup", "joint-tr-20-soup"]


@pytest.fixture(scope="module")
def soups(tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment with soups, all of whose models are kept."""
    root = tmp_path_factory.mktemp("soups") / "run"
    main(transfer(root, tiny_backbone, *SOUP, "--keep=all"))
    return root


def test_soup(soups: Path) -> None:
    """A soup has the average weights of the seeds' stages, is evaluated as they are, and tells all that they saw."""
    rows = results(soups)
    assert list(dict.fromkeys(row["stage"] for row in rows)) == TRAINED + SOUPS
    for soup in SOUPS:
        members = [soups / "stages" / f"{soup.removesuffix('soup')}seed{seed}" / "model" for seed in (1, 2)]
        folders = [*members, soups / "stages" / soup / "model"]
        one, two, found = (load_file(each / "model.safetensors") for each in folders)
        for name, value in found.items():
            torch.testing.assert_close(value.double(), (one[name].double() + two[name].double()) / 2, rtol=6e-8, atol=0)
        assert any(not torch.equal(one[name], two[name]) for name in found)
        first, second, both = (read_history(str(each)) for each in folders)
        episodes = [*first.lineage["episodes"], *second.lineage["episodes"]]
        assert both.lineage["episodes"] == [each for n, each in enumerate(episodes) if each not in episodes[:n]]
        assert {episode["seed"] for episode in both.lineage["episodes"]} == {1, 2}
        assert {*both.sentences} == {*first.sentences, *second.sentences}
        for row in (each for each in rows if each["stage"] == soup):
            name = soup.removesuffix("-soup")
            assert (row["seed"], row["start_from"]) == ("", f"{name}-seed1+{name}-seed2")
            assert row["regime"] == f"soup-{name.partition('-')[0]}"
            assert row["zero_shot"] == str(row["eval_language"] == "tr" and name == "source-en")


def test_report_of_soups(soups: Path) -> None:
    """A soup is a point of its own, which the mean over seeds leaves out, compared with the stages of all seeds."""
    points = analyse(load_run(soups)).points
    assert [(point.regime, point.size, len(point.stages)) for point in points] == [
        *(("source", 0, 2), ("progressive", 20, 2), ("joint", 20, 2)),
        *(("soup-source", 0, 1), ("soup-progressive", 20, 1), ("soup-joint", 20, 1)),
    ]
    start, average = points[0].target, points[3].target
    assert average.source
    assert average.source.value == pytest.approx(average.seeds.mean - start.seeds.mean)
    page = (soups / "report.html").read_text(encoding="utf-8")
    assert "source, soup" in page
    assert "weights averaged over the seeds" in page
    assert "mean over 2 seeds" in page
    assert "1 to 2 seeds" not in page


def test_same_head(tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With soups, new heads begin with the same weights whatever the seed; without, with other ones."""
    heads: list[torch.Tensor] = []
    start = ResumeCheckpoint.on_train_start

    def noted(self: ResumeCheckpoint, trainer: object, pl_module: torch.nn.Module) -> None:
        start(self, trainer, pl_module)
        if "source" in self.last.parts[-3]:
            heads.append(pl_module.get_parameter("network.model.classifier.weight").detach().clone())

    monkeypatch.setattr(ResumeCheckpoint, "on_train_start", noted)
    for soup in ("true", "false"):
        options = ("--sizes=[10]", "--seeds=[1,2]", f"--soup={soup}", "--trainer.max_steps=1")
        main(transfer(tmp_path / soup, tiny_backbone, *options))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[2], heads[3])


@pytest.mark.slow
def test_killed_soup(soups: Path, tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models are kept until their soup is complete, and one that was killed is repeated."""
    command = transfer(tmp_path / "cut", tiny_backbone, *SOUP, "--keep=none")
    assert run_process(("model", 8, signal.SIGKILL), command)[0] == -signal.SIGKILL
    stages = tmp_path / "cut" / "stages"
    # The source soup is complete, so its models are deleted; that of the second soup has just been written.
    assert {path.parent.name for path in stages.glob("*/model")} == {
        *(name for name in TRAINED if "source" not in name),
        "progressive-tr-20-soup",
    }
    main(command)
    assert results(tmp_path / "cut") == results(soups)
    assert not [*stages.glob("*/model")]
    capsys.readouterr()


def test_soup_of_one_seed(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """There is nothing to average with one seed."""
    outcome = run(*transfer(tmp_path / "run", tiny_backbone, "--soup=true"))
    assert_one_line(outcome, 2, "soup=true averages the stages of several seeds, but seeds=[42]; use two or more")
    assert not (tmp_path / "run").exists()


def test_plan_of_soups(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """The plan says what a soup averages, and that it trains nothing."""
    outcome = run(*transfer(tmp_path / "run", tiny_backbone, *SOUP, "--plan"))
    assert outcome.code == 0, outcome
    lines = [line.split("  ") for line in outcome.out.splitlines() if "soup" in line]
    assert [line[0] for line in lines] == SOUPS
    assert all("average of 2 seeds" in "  ".join(line) and line[-1].strip() == "0" for line in lines)


def test_lost_model(soups: Path, tiny_backbone: str, tmp_path: Path, run: Run) -> None:
    """A soup whose stages have no weights any more is one line."""
    root = tmp_path / "run"
    shutil.copytree(soups, root)
    shutil.rmtree(root / "stages" / "joint-tr-20-soup")
    shutil.rmtree(root / "stages" / "joint-tr-20-seed2" / "model")
    outcome = run(*transfer(root, tiny_backbone, *SOUP, "--keep=all"))
    assert_one_line(outcome, 1, "joint-tr-20-soup averages joint-tr-20-seed2, whose weights are not in")


ORACLE = ("--sizes=[20]", "--regimes=[progressive,scratch]", "--select=oracle", "--keep=all")


def test_oracle(tiny_backbone: str, tmp_path: Path, run: Run) -> None:
    """The best epoch by the target's validation is taken, and no score of it, or of its children, is zero-shot."""
    scores: dict[str, list[float]] = {}
    save = ResumeCheckpoint.on_train_epoch_end

    def noted(self: ResumeCheckpoint, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores.setdefault(self.last.parts[-3], []).append(float(trainer.callback_metrics["val/f1"]))
        save(self, trainer, pl_module)
        if trainer.current_epoch + 1 == trainer.max_epochs:
            assert self.best
            best[self.last.parts[-3]] = torch.load(self.best, weights_only=True)["state_dict"]

    best: dict[str, dict[str, torch.Tensor]] = {}
    validated: list[list[str]] = []
    loader = PanxDataModule.val_dataloader

    def watched(self: PanxDataModule) -> object:
        validated.append([str(split) for split in self.validation_splits()])
        return loader(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumeCheckpoint, "on_train_epoch_end", noted)
        patch.setattr(PanxDataModule, "val_dataloader", watched)
        outcome = run(*transfer(tmp_path / "run", tiny_backbone, *ORACLE))
    assert outcome.code == 0, outcome
    assert validated == [["tr/validation"]] * 3
    for stage, weights in best.items():
        folder = tmp_path / "run" / "stages" / stage / "model"
        for name, value in load_file(folder / "model.safetensors").items():
            assert torch.equal(value, weights[f"network.model.{name}"])
        # The score of that epoch is the one of the model folder, by the command that scores it.
        outcome = run(
            *("validate", "--data.source=sample", f"--model.backbone={folder}", "--data.languages=[tr]"),
            *("--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"),
        )
        assert outcome.code == 0, outcome
        [line] = [line for line in outcome.out.splitlines() if " val/f1 " in line]
        assert f"{max(scores[stage]):.4f}" in f"{float(line.split()[-2]):.4f}"
        assert read_history(str(folder)).lineage["oracle"]

    rows = results(tmp_path / "run")
    assert {row["stage"].split("-")[0] for row in rows} == {"source", "progressive", "scratch"}
    assert {(row["zero_shot"], row["oracle"]) for row in rows} == {("False", "True")}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "oracle (not zero-shot)" in page
    shown = page[page.index("<body") : page.index('id="configuration"')].replace("is called zero-shot only if", "")
    assert "was chosen by the Turkish validation" in shown
    assert not re.search("(?i)(?<!not )zero-shot", shown)


def test_oracle_goes_on(tiny_backbone: str, tmp_path: Path, run: Run) -> None:
    """A model folder of an oracle is one for every command, and for an experiment that starts from it."""
    root = tmp_path / "run"
    assert run(*transfer(root, tiny_backbone, "--sizes=[10]", "--select=oracle")).code == 0
    folder = root / "stages" / "source-en-seed42" / "model"
    outcome = run("test", "--data.source=sample", f"--model.backbone={folder}", "--data.test_languages=[tr]")
    assert outcome.code == 0, outcome
    assert "oracle: the epoch of the weights was chosen by the validation split of the target" in outcome.out
    assert "zero-shot" not in outcome.out
    assert run(*transfer(tmp_path / "child", str(folder), "--sizes=[10]", "--trainer.max_steps=1")).code == 0
    assert {(row["zero_shot"], row["oracle"]) for row in results(tmp_path / "child")} == {("False", "True")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--target=[tr,de]"], "select=oracle chooses epochs by one target, not by target=['tr', 'de']"),
        (["--trainer.limit_val_batches=0"], "skips validation, which select=oracle needs"),
        (["--trainer.check_val_every_n_epoch=5"], "but select=oracle needs F1 on validation"),
    ],
)
def test_mistakes_of_an_oracle(tiny_backbone: str, tmp_path: Path, run: Run, given: list[str], expected: str) -> None:
    """What leaves no target validation to choose by is one line before anything is written."""
    outcome = run(*transfer(tmp_path / "run", tiny_backbone, "--sizes=[10]", "--select=oracle", *given))
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "run").exists()


def test_fit_has_no_oracle(tiny_backbone: str, tmp_path: Path, run: Run) -> None:
    """A fit has no target."""
    outcome = run("fit", "--data.source=sample", f"--model.backbone={tiny_backbone}", "--select=oracle")
    assert_one_line(outcome, 2, "select", "oracle")
