import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from tests.commands import Run, assert_one_line
from xner.cli.exporting import export
from xner.data.sources import Split
from xner.lineage import NOTHING_SEEN, write_history
from xner.tagger import Tagger


def test_trimmed_model(run: Run, scored_backbone: Path, tmp_path: Path) -> None:
    """A model with the vocabulary of a language says its size, and tags the language as before."""
    output = tmp_path / "out"
    args = ["--model", scored_backbone, "--output", output, "--format", "safetensors"]
    outcome = run("export", *args, "--source", "sample", "--vocabulary_of", "[tr]", "--languages", "tr")
    assert outcome.code == 0, outcome
    assert "subwords: 1,800 before, " in outcome.out
    assert "trimmed and PyTorch, 150 sentences: 0\n" in outcome.out
    whole, trimmed = (line.split() for line in outcome.out.splitlines() if line.startswith(("PyTorch", "trimmed")))
    assert whole[2:4] == trimmed[2:4]
    assert trimmed[3] == "0"
    assert float(trimmed[1]) < float(whole[1])
    text = " ".join(Split("sample", "tr", "test").sentences.words[0])
    assert Tagger.from_pretrained(str(output))(text).tags == Tagger.from_pretrained(str(scored_backbone))(text).tags
    assert not [*tmp_path.rglob(".*.part")]


def test_onnx_of_a_corpus(run: Run, scored_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantised model of a text file's vocabulary lies where the hub's models have it, without other weights."""
    (tmp_path / "corpus.txt").write_text("\nAnkara'da  doğdu.\nAlan Turing\n", encoding="utf-8")
    output = tmp_path / "out"
    args = ["--model", scored_backbone, "--output", output, "--corpus", tmp_path / "corpus.txt"]
    outcome = run("export", *args, "--format", "onnx-int8", "--source", "sample", "--languages", "en", "tr")
    assert outcome.code == 0, outcome
    assert "largest difference of logits, onnx and trimmed, 2 sentences: " in outcome.out
    card = ModelCard.load(output / "README.md").text
    for line in outcome.out.splitlines()[:-1]:
        assert f"\n{line}\n" in card
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(output)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["logits"].shape[-1] == 7
    rows = [line.split()[0] for line in outcome.out.splitlines()]
    assert rows[-5:-1] == ["PyTorch", "trimmed", "onnx", "onnx-int8"]
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert files == ["README.md", "config.json", "onnx/model_quantized.onnx", "tokenizer.json", "tokenizer_config.json"]
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == len(json.loads((output / "tokenizer.json").read_text("utf-8"))["model"]["vocab"])


def test_safetensors(run: Run, scored_backbone: Path, tmp_path: Path) -> None:
    """Without a text, the whole model is written."""
    (tmp_path / "out").mkdir()
    outcome = run("export", "--model", scored_backbone, "--output", tmp_path / "out", "--format", "safetensors")
    assert outcome.code == 0, outcome
    before, after = (load_file(each / "model.safetensors") for each in (scored_backbone, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--format", "tflite"], ["--format", "safetensors"]),
        (["--opset", "9"], ["opset=9 is not possible; use 18 to 23"]),
        (["--tolerance", "0"], ["tolerance=0.0 is not positive"]),
        (["--check_sentences", "0"], ["check_sentences=0 is out of range"]),
        (["--corpus", "nowhere.txt"], ["corpus='nowhere.txt' is not a file"]),
        (["--source", "sample", "--vocabulary_of", "xx"], ["'xx'"]),
        (["--source", "sample", "--languages", "xx"], ["'xx'"]),
        (["--source", "sample", "--languages", "en", "--types", "PER", "ORG", "LOC", "MISC"], ["MISC", "types"]),
        (["--private"], ["private=true is only for push_to_hub"]),
        (["--push_to_hub", "owner/it"], ["push_to_hub='owner/it' needs a login"]),
    ],
)
def test_wrong_options(run: Run, scored_backbone: Path, tmp_path: Path, args: list[str], parts: list[str]) -> None:
    """A wrong option is one line, and nothing is written."""
    outcome = run("export", "--model", scored_backbone, "--output", tmp_path / "out", *args)
    assert_one_line(outcome, 2, *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["cwd"]


def test_wrong_models(run: Run, tiny_backbone: str, scored_backbone: Path, tmp_path: Path) -> None:
    """A folder without a head, with pickled weights alone, or without anything is one line."""
    assert_one_line(run("export", "--model", tiny_backbone, "--output", "o"), 2, "model=", "has no trained head")
    pickled = Path(shutil.copytree(scored_backbone, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert_one_line(run("export", "--model", pickled, "--output", "o"), 2, "has no model.safetensors", "pickle")
    (tmp_path / "empty").mkdir()
    assert_one_line(run("export", "--model", tmp_path / "empty", "--output", "o"), 2, "holds no config.json")
    assert_one_line(run("export", "--model", "./nowhere", "--output", "o"), 2, "'./nowhere' is not a folder")


def test_output_exists(run: Run, scored_backbone: Path, tmp_path: Path) -> None:
    """A folder with a file in it, and a file, are left as they are."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("1")
    for output in (tmp_path / "out", tmp_path / "out" / "precious"):
        outcome = run("export", "--model", scored_backbone, "--output", output)
        assert_one_line(outcome, 2, "exists and is not an empty folder")
    assert (tmp_path / "out" / "precious").read_text() == "1"


def test_missing_extra(run: Run, scored_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra's packages, ONNX is refused in one line that names the extra; safetensors needs none."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    args = ["--model", scored_backbone, "--output", tmp_path / "out"]
    assert_one_line(run("export", *args), 2, "pip install '.[export]'")
    assert run("export", *args, "--format", "safetensors").code == 0


def test_no_words(run: Run, scored_backbone: Path, tmp_path: Path) -> None:
    """A text without words is one line."""
    (tmp_path / "corpus.txt").write_text("\n \n")
    args = ["--model", scored_backbone, "--output", tmp_path / "out", "--corpus", tmp_path / "corpus.txt"]
    assert_one_line(run("export", *args), 1, "has no words")
    assert not (tmp_path / "out").exists()


def test_tolerance_and_a_stop(run: Run, scored_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that differs by more than the tolerance is not written; nor is one whose command is interrupted."""
    args = ["--model", str(scored_backbone), "--output", str(tmp_path / "out")]
    outcome = run("export", *args, "--tolerance", "1e-12")
    assert_one_line(outcome, 1, "more than 1e-12; use another opset or a larger tolerance")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xner.export.onnx_model.write_onnx", stop)
    with pytest.raises(KeyboardInterrupt):
        export(args)
    assert [path.name for path in tmp_path.iterdir()] == ["cwd"]


def test_replaced_weights(run: Run, scored_backbone: Path, tmp_path: Path) -> None:
    """A folder whose record is not of its weights is refused before anything is exported."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    episode: dict[str, Any] = {
        "source": "sample",
        "language": "en",
        "split": "train",
        "sentences": 1,
        "shuffle_seed": 0,
    }
    episode |= {"subset_seed": None, "seed": None, "types": ["PER"], "map_types": {}, "digest": "", "labels": "gold"}
    write_history(folder, NOTHING_SEEN._replace(lineage={"origin": "it", "episodes": [episode]}))  # type: ignore[list-item] # a plain dictionary
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1] + b"\1")
    outcome = run("export", "--model", folder, "--output", tmp_path / "out", "--source", "sample", "--languages", "en")
    assert_one_line(outcome, 1, "does not describe the weights beside it")
    assert not (tmp_path / "out").exists()
