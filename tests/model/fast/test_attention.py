import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from xner.model.fast.layers import Dropout, row_attention, row_mask

NONE_DROPPED = 1e-18
"""A dropout probability for which the attention of training is used, and drops nothing."""
WINDOWS = torch.tensor([[1, 1, 1, 4, 4, 0], [2, 2, 2, 2, 2, 2], [3, 5, 5, 0, 0, 0]])


def test_row_mask() -> None:
    """A piece sees its own window's pieces and no others, and padding sees padding."""
    seen = row_mask(WINDOWS) == 0
    assert seen.shape == (3, 1, 6, 6)
    for row, windows in enumerate(WINDOWS.tolist()):
        assert seen[row, 0].tolist() == [[one == other for other in windows] for one in windows]


@pytest.mark.parametrize("dropout", [0, NONE_DROPPED])
def test_attention_is_torchs(dropout: float) -> None:
    """The mixed values and their gradients are those of torch's own scaled dot product, without and with dropout."""
    torch.manual_seed(0)
    inputs = [torch.randn(3, 2, 6, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = row_mask(WINDOWS)
    mixed, weights = row_attention(nn.Module(), *inputs, attention_mask=mask, dropout=dropout, scaling=8**-0.5)
    expected = scaled_dot_product_attention(*inputs, attn_mask=row_mask(WINDOWS) == 0).transpose(1, 2)
    assert weights is None
    torch.testing.assert_close(mixed, expected, atol=1e-12, rtol=0)
    weight = torch.randn_like(mixed)
    for found, theirs in zip(
        torch.autograd.grad((mixed * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dropout", [0, NONE_DROPPED])
def test_attention_in_bfloat16(dropout: float) -> None:
    """In bfloat16, attention is right to that precision, and what another window holds changes nothing."""

    def attend() -> torch.Tensor:
        mask = row_mask(WINDOWS)
        mixed, _ = row_attention(nn.Module(), *inputs, attention_mask=mask, dropout=dropout, scaling=8**-0.5)
        return mixed

    torch.manual_seed(0)
    exact = [torch.randn(3, 2, 6, 8) for _ in range(3)]
    expected = scaled_dot_product_attention(*exact, attn_mask=row_mask(WINDOWS) == 0).transpose(1, 2)
    inputs = [each.bfloat16() for each in exact]
    mixed = attend()
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), expected, atol=0.05, rtol=0)
    # In the first row, other keys and values of window 4 change no piece of window 1.
    for each in inputs[1:]:
        each[0, :, 3:5] = 99
    changed = attend()
    assert torch.equal(changed[0, :3], mixed[0, :3])
    assert not torch.equal(changed[0, 3:5], mixed[0, 3:5])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(999, 1001), (7, 3, 20001)])
def test_dropout(p: float, shape: tuple[int, ...]) -> None:
    """In training a share of p is zero, the rest is scaled so that the mean stays, and neighbours do not depend."""
    torch.manual_seed(0)
    drop = Dropout(p)
    values = torch.ones(shape, requires_grad=True)
    dropped = drop(values)
    assert dropped.shape == shape
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    gone = (dropped == 0).flatten().double()
    deviation = (p * (1 - p) / len(gone)) ** 0.5
    assert abs(gone.mean() - p) < 5 * deviation
    for distance in (1, 2, 3, 1001):
        together = (gone[distance:] * gone[:-distance]).mean()
        assert abs(together - p**2) < 10 * deviation * p
    assert torch.equal(torch.autograd.grad(dropped.sum(), values)[0], dropped)


def test_dropout_off() -> None:
    """In evaluation, and with p=0, nothing is dropped and no random number is drawn; with p=1 everything is."""
    values = torch.randn(5, 5)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(Dropout(1.0)(values), torch.zeros(5, 5))


def test_dropout_follows_the_seed() -> None:
    """A seed repeats what is dropped; the next draw is another."""
    torch.manual_seed(3)
    first, second = (Dropout(0.5)(torch.ones(100)) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.5)(torch.ones(100)), first)
    assert not torch.equal(first, second)
