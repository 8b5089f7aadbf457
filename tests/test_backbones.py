import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from tests.backbones import FAMILIES, make
from tests.model.tiny import fit, loaded, pretrained_backbone
from tests.weights import determined
from xner.backbone import load_config, position_start
from xner.backbone.tokenizer import load_tokenizer, save_tokenizer, tokenizer_digest
from xner.backbone.weights import load_network
from xner.cli.main import main
from xner.data.encode import encode
from xner.data.packing import RowDataset
from xner.data.sampler import BatchIndices
from xner.data.sources import Split
from xner.errors import RunError
from xner.tags import PANX
from xner.transfer.result import read_result

ROOT = Path(__file__).parents[1]
OPTIONS = ["--data.source=sample", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
FIT = {"data": {"languages": ["tr"], "num_samples": 64, "batch_size": 8}, "model": {"learning_rate": 1e-3}}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backbone(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(family, tmp_path_factory.mktemp("backbones") / family.replace(" ", "-"))


@pytest.fixture(scope="module")
def root(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit on some Turkish by the command."""
    root = tmp_path_factory.mktemp("fit")
    options = [f"--model.backbone={backbone}", f"--trainer.default_root_dir={root}", "--trainer.max_epochs=2"]
    few = ["--data.languages=[tr]", "--data.num_samples=200", "--data.batch_size=8", "--model.learning_rate=3e-3"]
    main(["fit", *OPTIONS, *options, *few])
    return root


def plain_tags(model: Path, words: Sequence[str]) -> list[str]:
    """Tag a sentence with transformers alone: the likeliest tag on each word's first piece."""
    pieces = AutoTokenizer.from_pretrained(model)(words, is_split_into_words=True, return_tensors="pt")
    network = AutoModelForTokenClassification.from_pretrained(model).eval()
    with torch.no_grad():
        labels = network(**pieces).logits[0].argmax(dim=-1)
    first = [pieces.word_ids().index(word) for word in range(len(words))]
    return [network.config.id2label[int(labels[place])] for place in first]


def test_model_folder(family: str, backbone: Path, root: Path) -> None:
    """Fitting trains the network and leaves a folder of its own family, with the tokenizer as one file."""
    network = AutoModelForTokenClassification.from_pretrained(root / "model")
    before = loaded(backbone).network.model
    assert type(network) is type(before)
    assert network.config.id2label == dict(enumerate(PANX.tags))
    weights = dict(before.named_parameters())
    assert {name: weight.shape for name, weight in network.named_parameters()} == {
        name: weight.shape for name, weight in weights.items()
    }
    trained = determined(dict(network.named_parameters()))
    assert not [name for name, weight in trained.items() if torch.equal(weight, weights[name])]
    assert (root / "model" / "tokenizer.json").is_file()
    assert tokenizer_digest(str(root / "model")) == tokenizer_digest(str(backbone))


def test_predictions_are_transformers(family: str, root: Path, tmp_path: Path) -> None:
    """The model folder's tags, sentence by sentence, are what transformers alone makes of it; some find entities."""
    options = [f"--model.backbone={root / 'model'}", f"--trainer.default_root_dir={tmp_path}"]
    main(["predict", *OPTIONS, *options, "--data.test_languages=[tr]"])
    rows = [json.loads(line) for line in (tmp_path / "tr-test.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert {tag for row in rows for tag in row["predicted_tags"]} > {"O"}
    for row in rows[::40]:
        assert row["predicted_tags"] == plain_tags(root / "model", row["tokens"])


def test_test(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model folder can be tested, scores all words, and knows which language is zero-shot."""
    options = [f"--model.backbone={root / 'model'}", f"--trainer.default_root_dir={tmp_path}"]
    main(["test", *OPTIONS, *options, "--data.test_languages=[tr,en]"])
    out = capsys.readouterr().out
    assert "\ntr/test: F1 0." in out
    assert "\nen/test (zero-shot): F1 0." in out


def test_tag(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model folder tags raw text, as transformers alone tags its words."""
    capsys.readouterr()
    words = "Mustafa Kemal Ankara Üniversitesi yakınında doğdu".split()
    main(["tag", f"--model={root / 'model'}", "--format=jsonl", " ".join(words)])
    tagged = json.loads(capsys.readouterr().out)
    assert tagged["words"] == words
    assert tagged["tags"] == plain_tags(root / "model", words)


def test_padding_is_said(family: str, backbone: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where sentences cannot share rows, a line says that there is padding: of mDeBERTa, and not of mBERT."""
    with caplog.at_level(logging.INFO, "xner"):
        fitted = fit(backbone, **FIT)
    line = f"{backbone} (deberta-v2) does not support packing: its batches are padded"
    assert (line in caplog.messages) is (family != "mbert")
    assert fitted.data.packing is (family == "mbert")


def test_special_pieces(backbone: Path) -> None:
    """Padding is piece 0, positions count from 0, and a window lies between [CLS] and [SEP]."""
    config, tokenizer = load_config(str(backbone)), load_tokenizer(str(backbone))
    assert (config.pad_token_id, tokenizer.pad_token_id, position_start(config)) == (0, 0, 0)
    pieces = encode(Split("sample", "tr", "test").sentences, tokenizer, 64, PANX)
    windows = np.split(pieces.pieces, pieces.window_start[1:-1])
    assert {tokenizer.convert_ids_to_tokens(int(window[0])) for window in windows} == {"[CLS]"}
    assert {tokenizer.convert_ids_to_tokens(int(window[-1])) for window in windows} == {"[SEP]"}
    assert pieces.pieces.max() < config.vocab_size


def test_rows_change_nothing(tmp_path: Path) -> None:
    """Logits of mBERT in shared rows are the padded ones and those of each sentence alone in the bare network."""
    model = loaded(make("mbert", tmp_path / "mbert"))
    data = encode(Split("sample", "tr", "validation").sentences, load_tokenizer(model.backbone_name), 64, PANX)
    share = BatchIndices(np.arange(60), int(data.sentence_labelled[:60].sum()))
    packed, padded = (RowDataset(data, padding_id=0, row_length=length)[share] for length in (96, None))
    assert len(packed.pieces) < len(padded.pieces) / 3
    assert packed.pieces.numel() < padded.pieces.numel() * 0.7
    with torch.no_grad():
        logits = [model(batch)[batch.windows == window] for batch in (packed, padded) for window in range(1, 61)]
        bare = [
            model.network.model(input_ids=torch.from_numpy(window.astype(np.int64))[None]).logits[0]
            for window in np.split(data.pieces, data.window_start[1:-1])[:60]
        ]
    torch.testing.assert_close(logits[:60], bare, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[60:], bare, atol=1e-5, rtol=0)


def test_compact_vocabulary(backbone: Path) -> None:
    """Training the rows in use alone gives the losses and weights of training all of them."""
    compact, whole = (
        fit(backbone, **{**FIT, "model": {**FIT["model"], "compact_vocabulary": c}}) for c in (True, False)
    )
    assert len(np.setdiff1d(np.arange(1000), compact.data.used_pieces())) > 100
    assert compact.record.losses == whole.record.losses
    assert compact.record.scores == whole.record.scores
    assert compact.record.losses[-1] < compact.record.losses[0] - 0.1
    torch.testing.assert_close(compact.weights, whole.weights, atol=1e-6, rtol=0)


def test_transfer(family: str, backbone: Path, tmp_path: Path) -> None:
    """The whole experiment runs, each stage from the model folder of the one before."""
    options = [f"--model.backbone={backbone}", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1"]
    main(["transfer", *OPTIONS, *options, "--sizes=[20,40]", "--source_samples=64"])
    result = read_result(tmp_path / "stages" / "progressive-tr-40-seed42")
    assert result
    assert result["start_from"] == "progressive-tr-20-seed42"
    assert [each["unscored_words"] for each in result["evaluations"]] == [0, 0]


def test_tokenizer_without_a_file_of_its_own(tmp_path: Path) -> None:
    """Where a backbone has a SentencePiece model alone, the saved tokenizer cuts words as it does."""
    folder = make("mdeberta of the hub", tmp_path / "backbone")
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "pytorch_model.bin", "spm.model", "tokenizer_config.json"),
    }
    (tmp_path / "saved").mkdir()
    save_tokenizer(str(folder), tmp_path / "saved")
    shutil.copyfile(folder / "config.json", tmp_path / "saved" / "config.json")
    sentences = Split("sample", "tr", "test").sentences
    first, again = (encode(sentences, load_tokenizer(str(each)), 64, PANX) for each in (folder, tmp_path / "saved"))
    assert np.array_equal(first.pieces, again.pieces)
    assert np.array_equal(first.labels, again.labels)


CODE = {
    "config.json": {
        "auto_map": {
            "AutoConfig": "configuration_x.XConfig",
            "AutoModelForTokenClassification": "modeling_x.XForTokenClassification",
        }
    },
    "tokenizer_config.json": {
        "auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", "tokenization_x.XTokenizerFast"]},
        "tokenizer_class": "XTokenizer",
    },
}
"""The configuration of a folder with code of its own."""


def with_code(folder: Path, *, marker: Path, **changes: object) -> Path:
    """Let a model folder bring code of its own, which leaves a marker if it is run; and change its config.json."""
    for name in ("configuration_x", "modeling_x", "tokenization_x"):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    for name, said in CODE.items():
        rewrite(folder / name, **said, **(changes if name == "config.json" else {}))
    return folder


def rewrite(path: Path, **changes: object) -> None:
    """Change some values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "fit --data.source=sample --model.backbone",
        pytest.param("tag --model", marks=pytest.mark.slow),
        pytest.param("new-backbone --output out --tokenizer", marks=pytest.mark.slow),
        pytest.param("explore --source sample --tokenizer", marks=pytest.mark.slow),
    ],
)
def test_text_cannot_allow_code(command: str, tmp_path: Path) -> None:
    """Where a folder's code is needed, every command is one line, whatever standard input says to a question."""
    folder = with_code(pretrained_backbone(tmp_path / "x"), marker=tmp_path / "marker", model_type="x")
    outcome = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command.split(), str(folder)],
        env={name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
        | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        input="yes\n" * 5,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (tmp_path / "marker").exists()
    assert outcome.returncode == 1
    # What Lightning says of every fit stands above.
    [line] = [line for line in outcome.stderr.splitlines() if not line.startswith(("Seed set", "GPU available"))]
    assert "needs Python code of its own (auto_map), which xner never runs; use a folder or hub" in line
    assert str(folder) in line
    for advice in ("[y/N]", "trust_remote_code"):
        assert advice not in outcome.stdout + outcome.stderr


def test_network_with_code_alone(tmp_path: Path) -> None:
    """A model type that transformers knows, but whose token classifier is the folder's own code, is refused."""
    folder = with_code(pretrained_backbone(tmp_path / "x"), marker=tmp_path / "marker", model_type="marian")
    with pytest.raises(RunError, match=r"needs Python code of its own \(auto_map\)"):
        load_network(str(folder))
    assert not (tmp_path / "marker").exists()


def test_code_that_is_not_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where transformers has classes of its own for what a folder's code is for, they are used, with equal weights."""
    plain = pretrained_backbone(tmp_path / "plain")
    folder = with_code(pretrained_backbone(tmp_path / "known"), marker=tmp_path / "marker")
    texts = ["Mustafa Kemal Ankara'da", "Alan Turing"]
    printed = []
    for model in (plain, folder):
        main(["tag", "--format=jsonl", "--model", str(model), *texts])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    # Nor is a network's code needed for a tokenizer that is a file.
    rewrite(folder / "config.json", model_type="x")
    shutil.copyfile(plain / "tokenizer_config.json", folder / "tokenizer_config.json")
    assert load_tokenizer(str(folder)).get_vocab() == load_tokenizer(str(plain)).get_vocab()
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("auto_map", [None, "AutoConfig", ["AutoConfig"], {"AutoConfig": 3}], ids=repr)
def test_damaged_auto_map(auto_map: object, tmp_path: Path) -> None:
    """An ``auto_map`` that is not one is told in one line."""
    folder = pretrained_backbone(tmp_path / "x")
    rewrite(folder / "config.json", auto_map=auto_map)
    with pytest.raises(RunError, match=r"cannot be loaded \(") as caught:
        load_config(str(folder))
    assert "\n" not in str(caught.value)


class Pickled:
    """An object that runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


def test_pickled_code(tmp_path: Path) -> None:
    """Weights that are pickled with code are refused in one line, without torch's advice to run it."""
    folder = pretrained_backbone(tmp_path / "x")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Pickled(tmp_path / "marker")}, folder / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"its weights are damaged, or hold more than tensors") as caught:
        load_network(str(folder))
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "marker").exists()
