"""Fixtures of all tests: no network, a cache of their own, few warnings, and a tiny backbone."""

import atexit
import gc
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

# Read when the libraries are imported, so set before.
_HF_HOME = tempfile.mkdtemp(prefix="xner-tests-hf-")
atexit.register(shutil.rmtree, _HF_HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=_HF_HOME,
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TRANSFORMERS_VERBOSITY="error",
    WANDB_MODE="disabled",
    # Networks here are tiny: threads would wait for one another.
    OMP_NUM_THREADS="1",
)
for variable in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
    os.environ.pop(variable, None)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.commands import Outcome, Run  # noqa: E402
from tests.model.tiny import pretrained_backbone  # noqa: E402
from tests.sources import write_source  # noqa: E402
from xner.backbone.tokenizer import save_tokenizer  # noqa: E402
from xner.backbone.weights import load_network, new_backbone, save_network  # noqa: E402
from xner.cli.main import main  # noqa: E402
from xner.data.sources import SAMPLE  # noqa: E402
from xner.tagger import Tagger  # noqa: E402

# A machine that others use as well has no deadlines; fixtures here are never changed by an example.
settings.register_profile("xner", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("xner")


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later garbage collection, as the command itself does."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep encoded splits away from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XNER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says of devices, and of loaders whose workers nobody needs."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


@pytest.fixture(autouse=True)
def _no_seed() -> Iterator[None]:
    """Take away the seed that Lightning leaves in the environment, where the next test would find it."""
    yield
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def sample_backbone() -> str:
    """The folder of the embedded sample's backbone, whose tokenizer is laid out as XLM-R's."""
    return str(SAMPLE / "backbone")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory, sample_backbone: str) -> str:
    """The folder of a network of one layer with random weights, on the sample's tokenizer."""
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    new_backbone(
        sample_backbone,
        str(folder),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    return str(folder)


@pytest.fixture(scope="session")
def still_backbone(tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone without dropout."""
    folder = Path(shutil.copytree(tiny_backbone, tmp_path_factory.mktemp("still") / "backbone"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def scored_backbone(still_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same under a head, which nobody can tell from a trained one, so that commands score it."""
    folder = tmp_path_factory.mktemp("scored") / "backbone"
    folder.mkdir()
    save_network(load_network(str(still_backbone)).network, folder)
    save_tokenizer(str(still_backbone), folder)
    return folder


@pytest.fixture(scope="session")
def tagging_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder of the sample's backbone, whose head is random, so that it finds entities everywhere."""
    return str(pretrained_backbone(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture(scope="session")
def tagger(tagging_model: str) -> Tagger:
    """The tagger of ``tagging_model``; no test changes it."""
    return Tagger.from_pretrained(tagging_model)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the real command in this process, in an empty folder of its own."""
    # A handler of an earlier test would write to that test's stream, which is closed.
    monkeypatch.setattr(logging.getLogger("xner"), "handlers", [])
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def call(*args: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([*map(str, args)])
        except SystemExit as leave:
            code = int(leave.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with English and Turkish, 40 sentences a split."""
    return write_source(tmp_path_factory.mktemp("data") / "source", {"train": 40, "validation": 40, "test": 40})


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real PAN-X beside the repository; a test that needs it is skipped where it is not."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} with the real data is not here")
    return folder
