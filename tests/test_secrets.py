"""The keys and passwords of a user's environment are in no file that commands write, and in no output."""

import base64
import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

import xner.dashboard
from xner.cli.main import main

SAMPLE, WANDB = (Path(__file__).parents[1] / "configs" / name for name in ("sample.yaml", "wandb.yaml"))
API_KEY, HF_TOKEN, PASSWORD = "5ec4e70a" * 5, "hf_Zq7SecretOfTheHub", "Zq7PasswordOfTheServer"


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An environment with secrets, in which everything that is written is below ``tmp_path``."""
    for name, value in {
        "WANDB_API_KEY": API_KEY,
        "HF_TOKEN": HF_TOKEN,
        "WANDB_BASE_URL": f"http://user:{PASSWORD}@127.0.0.1:9",
        "XNER_CACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path / "home"),
        **{f"WANDB_{each}_DIR": str(tmp_path / "wandb" / each.lower()) for each in ("CACHE", "CONFIG", "DATA")},
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    wandb.teardown()  # it read the environment when it was first used
    xner.dashboard._say_once.cache_clear()
    yield
    wandb.teardown()


def contents(path: Path) -> Iterator[bytes]:
    """Yield what a file holds, as it is and decompressed."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):  # a checkpoint, and the counts of a stage
        with zipfile.ZipFile(path) as members:
            yield from map(members.read, members.namelist())
    elif path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_secrets(
    mode: str, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither training, with W&B offline or with a server that is not there, nor what follows it tells a secret."""
    monkeypatch.setenv("WANDB_MODE", mode)
    fit, transfer, new = (tmp_path / name for name in ("fit", "transfer", "new"))
    shared = [f"--config={SAMPLE}", f"--config={WANDB}", f"--model.backbone={tiny_backbone}", "--trainer.max_epochs=1"]
    shared += ["--data.num_samples=16", "--trainer.accelerator=cpu"]
    few = ["--sizes=[8]", "--trainer.limit_val_batches=2"]
    main(["fit", *shared, f"--trainer.default_root_dir={fit}", "--trainer.enable_checkpointing=true"])
    main(["test", *shared, f"--trainer.default_root_dir={fit}", f"--model.backbone={fit / 'model'}"])
    del shared[4]
    main(["transfer", *shared, f"--trainer.default_root_dir={transfer}", *few])
    main(["report", str(transfer), f"--output={new / 'report'}"])
    main(["export", "--model", str(fit / "model"), "--format=safetensors", f"--output={new / 'export'}"])
    for command in ("fit", "transfer"):
        with pytest.raises(SystemExit):
            main([command, *shared, "--print_config"])
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    names = {each.name for each in files}
    assert {"config.yaml", "report.html", "result.json", "counts.npz", "model.safetensors", "README.md"} <= names
    assert [each for each in files if each.suffix == ".wandb"]
    assert [each for each in files if each.suffix == ".ckpt"]
    output = "".join(capfd.readouterr())
    assert "default_root_dir" in output
    for secret in (API_KEY, HF_TOKEN, PASSWORD):
        forms = [secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")]
        assert not [each for each in files for content in contents(each) if any(form in content for form in forms)]
        assert not any(form.decode() in output for form in forms)
