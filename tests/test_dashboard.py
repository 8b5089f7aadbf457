import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from torch import Tensor

import xner.dashboard
from tests.wandb_file import Kept, read, read_all
from tests.wandb_server import Server, serve
from xner.batch import Batch
from xner.cli.main import main
from xner.dashboard import Dashboard
from xner.model.classifier import TokenClassifier

CONFIG = Path(__file__).parents[1] / "configs" / "wandb.yaml"
STAGES = ["source-en-seed42", "progressive-tr-10-seed42", "progressive-tr-20-seed42"]


@pytest.fixture
def _online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine of a user's own: nothing is said of W&B but where its configuration is."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    xner.dashboard._say_once.cache_clear()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def run(command: str, source: Path, backbone: str, root: Path, *options: str) -> None:
    main(
        [
            *(command, f"--config={CONFIG}", f"--data.source={source}", f"--model.backbone={backbone}"),
            *(f"--trainer.default_root_dir={root}", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"),
            *("--model.learning_rate=5e-3", *options),
        ]
    )


class TestExperiment:
    @pytest.fixture(scope="class")
    def root(self, source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of an experiment that was kept offline."""
        root = tmp_path_factory.mktemp("dashboard") / "demo"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WANDB_MODE", "offline")
            run("transfer", source, tiny_backbone, root, "--sizes=[10,20]")
        return root

    @pytest.fixture(scope="class")
    def kept(self, root: Path) -> dict[str, Kept]:
        """Return the runs that W&B kept, by name."""
        runs = read_all(root)
        assert len({run.name for run in runs}) == len(runs)
        return {run.name: run for run in runs}

    @pytest.fixture(scope="class")
    def rows(self, root: Path) -> list[dict[str, str]]:
        with (root / "results.csv").open(encoding="utf-8", newline="") as file:
            return [*csv.DictReader(file)]

    def test_a_run_a_stage(self, kept: dict[str, Kept]) -> None:
        """Each stage is a W&B run that ended well, in the group of the run's folder; zero-shot is one of its own."""
        assert {name: run.job_type for name, run in kept.items()} == {
            "source-en-seed42": "source",
            "zero-shot-source-en-seed42": "zero-shot",
            "progressive-tr-10-seed42": "few-shot",
            "progressive-tr-20-seed42": "few-shot",
            "summary": "summary",
        }
        assert {(run.group, run.project, run.exit_code) for run in kept.values()} == {("demo", "xner", 0)}

    def test_configuration(self, kept: dict[str, Kept], root: Path, tiny_backbone: str) -> None:
        """A run's configuration is the stage's own, resolved."""
        config = kept["progressive-tr-20-seed42"].config
        assert config["model"]["learning_rate"] == 5e-3
        assert config["model"]["backbone"] == str(root / "stages" / "progressive-tr-10-seed42" / "model")
        assert (config["data"]["languages"], config["data"]["num_samples"]) == (["tr"], {"tr": 20})
        assert config["trainer"]["max_epochs"] == 2
        assert kept["source-en-seed42"].config["model"]["backbone"] == tiny_backbone

    def test_history(self, kept: dict[str, Kept]) -> None:
        """Training is drawn over steps with its speed and padding, validation over epochs with each type's F1."""
        source = kept["source-en-seed42"]
        assert source.metrics["*"] == "trainer/global_step"
        assert source.metrics["val/*"] == "epoch"
        training = [row for row in source.history if "train/loss" in row]
        assert [row["trainer/global_step"] for row in training] == [0, 1, 2, 3]
        for row in training:
            assert row["train/sentences_per_second"] > 0
            assert row["train/pieces_per_second"] > row["train/sentences_per_second"]
            assert 0 <= row["train/padding"] < 1
        validation = [row for row in source.history if "val/f1" in row]
        assert [row["epoch"] for row in validation] == [0, 1]
        assert all({"val/f1_PER", "val/f1_ORG", "val/f1_LOC"} <= row.keys() for row in validation)

    def test_summary(self, kept: dict[str, Kept], rows: list[dict[str, str]]) -> None:
        """Test scores in a run's summary are those of results.csv, to the last digit."""
        assert len(rows) == 2 * len(STAGES)
        for row in rows:
            for name in ("f1", "precision", "recall", "f1_PER", "f1_strict", "entities", "unscored_words"):
                summary = kept[row["stage"]].summary
                assert summary[f"test/{name}/{row['eval_language']}"] == float(row[name]), (row["stage"], name)
        zero_shot = kept["zero-shot-source-en-seed42"].summary
        assert zero_shot["test/f1/tr"] == float(rows[1]["f1"])
        assert "test/f1/en" not in zero_shot

    def test_overview(self, kept: dict[str, Kept], rows: list[dict[str, str]], root: Path) -> None:
        """The summary run has the few-shot table, F1 against sentences, the curve and sentences with errors."""
        overview = kept["summary"]
        target = {row["stage"]: float(row["f1"]) for row in rows if row["eval_language"] == "tr"}
        assert overview.metrics["few-shot/progressive/*"] == "sentences"
        points = [(row["sentences"], row["few-shot/progressive/f1"]) for row in overview.history if "sentences" in row]
        assert [size for size, _ in points] == [10, 20]
        assert [f1 for _, f1 in points] == pytest.approx([target[stage] for stage in STAGES[1:]], abs=1e-12)
        assert overview.summary["zero-shot/f1"] == pytest.approx(target[STAGES[0]], abs=1e-12)
        assert overview.summary["few-shot/best/f1"] == points[-1][1]

        [folder] = [path.parent for path in root.glob("wandb/offline-run-*/files/media")]
        few_shot = self.table(folder, overview, "few-shot/table")
        assert [(row["regime"], row["sentences"], row["seeds"]) for row in few_shot] == [
            ("source", 0, 1),
            ("progressive", 10, 1),
            ("progressive", 20, 1),
        ]
        assert [row["f1"] for row in few_shot] == pytest.approx([target[stage] for stage in STAGES], abs=1e-12)
        assert all(row["f1_low"] <= row["f1"] <= row["f1_high"] for row in few_shot)
        results = self.table(folder, overview, "results")
        assert [row["stage"] for row in results] == [row["stage"] for row in rows]
        errors = self.table(folder, overview, "errors")
        assert {row["error"] for row in errors} <= {"wrong type", "boundary error", "missed", "spurious"}
        assert errors
        for row in errors:
            assert row["gold"] != row["predicted"]
            assert all(span.split(": ", 1)[1] in row["text"] for span in str(row["gold"]).split(", ") if span)
        assert (folder / overview.summary["curve.path"]).read_bytes() == (root / "curve.png").read_bytes()

    @staticmethod
    def table(folder: Path, run: Kept, key: str) -> list[dict[str, object]]:
        found = json.loads((folder / run.summary[f"{key}.path"]).read_text(encoding="utf-8"))
        return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]


@pytest.mark.usefixtures("_online")
class TestServerAway:
    def kept(self, root: Path, reason: str, said: list[str]) -> None:
        """The fit ended well, its run is kept, and one line says why and how to send it."""
        assert (root / "model" / "config.json").is_file()
        assert [*root.rglob("*.ckpt")]
        assert not [*Path.cwd().iterdir()]
        wandb.finish()
        wandb.teardown()
        [kept] = read_all(root)
        assert (kept.name, kept.group, kept.job_type) == (root.name, root.name, "fit")
        assert [row["trainer/global_step"] for row in kept.history if "train/loss" in row] == [0, 1]
        [line] = [line for line in said if "W&B" in line]
        assert reason in line
        assert f"`wandb sync {root}/wandb/offline-run-*`" in line

    @pytest.mark.parametrize("listens", [False, True], ids=["closed port", "never answers"])
    def test_no_answer(
        self, source: Path, tiny_backbone: str, tmp_path: Path, listens: bool,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """A server that is not there, or accepts connections and never answers, makes the run an offline one."""
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            if listens:
                port.listen()
            address = f"http://127.0.0.1:{port.getsockname()[1]}"
            monkeypatch.setenv("WANDB_BASE_URL", address)
            monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
            wandb.teardown()
            run("fit", source, tiny_backbone, tmp_path / "run", "--data.num_samples=20")
        self.kept(tmp_path / "run", f"{address} does not answer", caplog.messages)

    def test_nobody_logged_in(
        self, source: Path, tiny_backbone: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """A server that answers, but whom no key was given for, makes the run an offline one."""
        with serve() as server:
            monkeypatch.setenv("WANDB_BASE_URL", server.address)
            wandb.teardown()
            run("fit", source, tiny_backbone, tmp_path / "run", "--data.num_samples=20")
        self.kept(tmp_path / "run", "No API key configured", caplog.messages)


@pytest.mark.usefixtures("_online")
def test_wrong_options(
    source: Path,
    tiny_backbone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mode that W&B does not know, and a project that it refuses, are one line each."""
    monkeypatch.setenv("WANDB_MODE", "ofline")
    for flags, said in (
        ([], "WANDB_MODE='ofline' is not a mode of W&B; use one of online"),
        (["--trainer.logger.init_args.project=a/b"], "a/b"),
    ):
        with pytest.raises(SystemExit) as stop:
            run("fit", source, tiny_backbone, tmp_path / "run", "--data.num_samples=20", *flags)
        assert stop.value.code == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xner: error: ")]
        assert said in line
        monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.slow
def test_own_process_dies(tmp_path: Path) -> None:
    """W&B's own process, killed in the middle of an experiment, stops neither the stage nor those after it."""
    script = f"""
import subprocess, sys
from pathlib import Path
from xner.dashboard import Dashboard
from xner.cli.output import configure_logging
configure_logging()
first, second = Dashboard(offline=True), Dashboard(offline=True)
first.describe(folder=Path({str(tmp_path)!r}), job_type="fit")
first.log_metrics({{"train/loss": 1.0}}, step=0)
subprocess.run(["pkill", "-9", "-P", str(__import__("os").getpid()), "wandb-core"], check=True)
for step in range(1, 200):
    first.log_metrics({{"train/loss": 1.0}}, step=step)
assert first.mode == "disabled", "it was not noticed"
first.end()
second.describe(folder=Path({str(tmp_path)!r}), job_type="fit")
second.log_metrics({{"train/loss": 1.0}}, step=0)
second.end()
print("went on")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert "went on" in done.stdout, done
    assert done.stderr.count("this command continues without it") == 1


@pytest.mark.usefixtures("_online")
class TestServer:
    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
        """A server that takes every run, and whom a key was given for."""
        with serve() as server:
            monkeypatch.setenv("WANDB_BASE_URL", server.address)
            monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
            wandb.teardown()
            yield server
            wandb.teardown()

    def test_goes_on(
        self, server: Server, source: Path, tiny_backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A run that is sent goes on under its id when its stage does, or its summary is written again."""
        dashboards = [Dashboard(), Dashboard()]
        for step, dashboard in enumerate(dashboards):
            dashboard.describe(folder=tmp_path, job_type="source", stage="a", known_as=tmp_path / "wandb-id")
            dashboard.log_metrics({"train/loss": 1.0}, step=step)
            dashboard.end()
        first, second = server.begun
        assert first == second == (tmp_path / "wandb-id").read_text()
        told = server.runs[first]
        assert (told["displayName"], told["groupName"], told["jobType"]) == ("a", tmp_path.name, "source")
        assert [line["trainer/global_step"] for line in server.lines[first]] == [0, 1]
        assert [line for line in caplog.messages if "W&B" in line] == [
            f"W&B: {server.address}/me/xner/runs/{first}"
        ] * 2

    def test_dies(
        self, server: Server, source: Path, tiny_backbone: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """A server that dies during a stage stops none: that stage's run is kept, and those after it are offline."""
        monkeypatch.setattr(xner.dashboard, "_END", 1)
        step = TokenClassifier.training_step

        def training_step(model: TokenClassifier, batch: Batch) -> Tensor:
            if model.global_step == 1 and server.begun:
                server.shutdown()
                server.server_close()
            return step(model, batch)

        monkeypatch.setattr(TokenClassifier, "training_step", training_step)
        run("transfer", source, tiny_backbone, tmp_path / "run", "--sizes=[10]")
        wandb.teardown()
        assert len(server.begun) == 1
        [sent] = [read(path) for path in (tmp_path / "run").glob("wandb/run-*/*.wandb")]
        assert sent.name == "source-en-seed42"
        assert [row["trainer/global_step"] for row in sent.history if "train/loss" in row] == [0, 1, 2, 3]
        offline = {kept.name for kept in read_all(tmp_path / "run")}
        assert offline == {"zero-shot-source-en-seed42", "progressive-tr-10-seed42", "summary"}
        assert (tmp_path / "run" / "report.html").is_file()
        assert any(f"{server.address} does not answer" in line for line in caplog.messages)
