"""Clipping within the optimizer's step."""

import math

import pytest
import torch

from xner.model.optimizer import clip_in_step, clips_in_step, gradient_norm


def test_norm_of_many_numbers() -> None:
    """Of many millions of numbers the norm is right to six digits and more, whatever their shapes."""
    shapes = ((4000, 768), (3072, 768), (768,), (1,), (2, 3, 4))
    gradients = [torch.randn(shape, generator=torch.Generator().manual_seed(5)) for shape in shapes]
    exact = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
    assert gradient_norm(gradients).item() == pytest.approx(exact, rel=3e-7)


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e6])
def test_step(limit: float) -> None:
    """The step is that of torch's own clipping before a plain step; a gradient below the limit is left as it is."""
    torch.manual_seed(0)
    start = [torch.randn(30, 20), torch.randn(20)]
    ends = []
    for within in (True, False):
        parameters = [torch.nn.Parameter(value.clone()) for value in start]
        optimizer = torch.optim.AdamW(parameters, lr=0.1, eps=1.0, fused=True)
        for step in range(3):
            for parameter in parameters:
                parameter.grad = torch.sin(parameter.detach() + step)
            if within:
                clip_in_step(optimizer, limit)
            else:
                torch.nn.utils.clip_grad_norm_(parameters, limit)
            optimizer.step()
        ends.append(parameters)
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_not_a_number() -> None:
    """A gradient that is not a number is not hidden."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    parameter.grad = torch.tensor([1.0, math.nan, 1.0])
    clip_in_step(optimizer, 1.0)
    optimizer.step()
    assert parameter.isnan().all()


def test_who_clips_in_step() -> None:
    """An optimizer of 32 bits that is fused does, and no longer where a checkpoint made it one that is not."""

    def adamw(dtype: torch.dtype, fused: bool) -> torch.optim.AdamW:
        parameter = torch.nn.Parameter(torch.ones(3, dtype=dtype))
        parameter.grad = torch.ones_like(parameter)
        return torch.optim.AdamW([parameter], fused=fused)

    whole = adamw(torch.float32, True)
    assert clips_in_step(whole)
    assert not clips_in_step(adamw(torch.bfloat16, True))
    plain = adamw(torch.float32, False)
    assert not clips_in_step(plain)
    plain.step()
    whole.load_state_dict(plain.state_dict())
    assert not clips_in_step(whole)
