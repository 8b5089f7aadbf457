"""The network without Lightning: its accelerations, its life in training, and what it reads from a batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.model.tiny import fit, pretrained_backbone
from xner.backbone import load_config
from xner.backbone.tokenizer import load_tokenizer
from xner.batch import Batch
from xner.data.encode import encode
from xner.data.packing import RowDataset
from xner.data.sampler import BatchIndices
from xner.data.sources import Split
from xner.model import optimizer
from xner.model.fast.layers import NAME, Dropout
from xner.model.network import Network
from xner.model.vocabulary import CompactEmbedding
from xner.tags import IGNORE, PANX


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's backbone with a head, without dropout."""
    return pretrained_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def batch(backbone: Path) -> Batch:
    """Sixty Turkish sentences in rows of 64 pieces."""
    data = encode(Split("sample", "tr", "validation").sentences, load_tokenizer(str(backbone)), 64, PANX)
    rows = RowDataset(data, padding_id=load_config(str(backbone)).pad_token_id, row_length=64)
    return rows[BatchIndices(np.arange(60), int(data.sentence_labelled[:60].sum()))]


def used(batch: Batch) -> Tensor:
    """Return the ids of the pieces that occur, ascending."""
    return torch.from_numpy(np.unique(batch.pieces.numpy()))


def networks(backbone: Path) -> list[Network]:
    """Make a network with accelerations, and one without."""
    return [Network(str(backbone), accelerate=accelerate) for accelerate in (True, False)]


def test_accelerations_in_evaluation(backbone: Path, batch: Batch) -> None:
    """Logits of words agree to 1e-5 with those of PyTorch's own kernels, also once the matrices are packed."""
    fast, plain = (network.eval() for network in networks(backbone))
    with torch.inference_mode():
        expected = plain.word_logits(batch)
        for _ in range(3):
            torch.testing.assert_close(fast.word_logits(batch), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(fast(batch), plain(batch), atol=1e-5, rtol=0)
    assert expected.std() > 0.1
    assert fast._products is not None
    assert plain._products is None


def test_accelerations_in_training(backbone: Path, batch: Batch) -> None:
    """Without dropout, the loss agrees to 1e-6 and each gradient to 1e-5 with those of PyTorch's own kernels."""
    places = (batch.labels.flatten() != IGNORE).nonzero()[:, 0]
    losses: list[Tensor] = []
    gradients: list[dict[str, Tensor]] = []
    for network in networks(backbone):
        logits = network.train()(batch, places)
        loss = nn.functional.cross_entropy(logits, batch.labels.flatten()[places])
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: each.grad for name, each in network.named_parameters() if each.grad is not None})
    torch.testing.assert_close(*losses, atol=1e-6, rtol=0)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)
    assert max(float(each.abs().max()) for each in gradients[0].values()) > 0.01


def test_switch(backbone: Path) -> None:
    """The switch turns every acceleration off, and on."""
    for network, on in zip(networks(backbone), (True, False), strict=True):
        assert any(isinstance(each, Dropout) for each in network.modules()) is on
        assert (network.model.config._attn_implementation == NAME) is on
        assert (network._last_layer is not None) is on


@pytest.mark.parametrize("clip", [1.0, 0.01])
def test_accelerated_fit(backbone: Path, clip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit without accelerations, clipping in the step included, has the same losses, gradients and scores."""
    in_step: list[float] = []
    clip_in_step = optimizer.clip_in_step

    def watched(adamw: torch.optim.Optimizer, limit: float) -> Tensor:
        in_step.append(limit)
        return clip_in_step(adamw, limit)

    monkeypatch.setattr(optimizer, "clip_in_step", watched)
    fast, plain = (
        fit(
            backbone,
            data={"num_samples": 64, "batch_size": 8},
            model={"learning_rate": 1e-3, "accelerate": accelerate},
            trainer={"gradient_clip_val": clip},
        ).record
        for accelerate in (True, False)
    )
    assert in_step == [clip] * len(fast.losses) == [clip] * 8
    assert fast.losses == pytest.approx(plain.losses, abs=1e-5)
    assert fast.scores[-1] == pytest.approx(plain.scores[-1], abs=1e-4)
    for found, expected in zip(fast.norms, plain.norms, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
        assert expected[1] == pytest.approx(clip, rel=1e-4)


def test_life(backbone: Path, batch: Batch) -> None:
    """Training begins with the rows that occur and ends with a whole matrix, which has not changed; it may repeat."""
    network = Network(str(backbone)).eval()
    assert network.head_is_new is False
    with torch.inference_mode():
        before = network(batch)
    for _ in range(2):
        network.begin_training(used(batch))
        rows = network.model.get_input_embeddings()
        assert isinstance(rows, CompactEmbedding)
        with torch.inference_mode():
            assert torch.equal(network(batch), before)
        network.end_training()
        assert isinstance(network.model.get_input_embeddings(), nn.Embedding)
        with torch.inference_mode():
            assert torch.equal(network(batch), before)


def test_trained_weights(backbone: Path, batch: Batch) -> None:
    """The state of a network in training, which has the whole matrix, loads into any network of the same backbone."""
    trained, other = Network(str(backbone)).eval(), Network(str(backbone)).eval()
    trained.begin_training(used(batch))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(0.9)
    state = trained.state_dict()
    name = "model.roberta.embeddings.word_embeddings.weight"
    assert state[name].shape == other.state_dict()[name].shape
    other.load_trained(state)
    with torch.inference_mode():
        assert torch.equal(other(batch), trained(batch))
    trained.end_training()
    for key, weight in trained.state_dict().items():
        assert torch.equal(weight, other.state_dict()[key]), key
