"""Clipping gradients by their norm (Pascanu et al. 2013) without a pass over them of its own."""

import torch
from torch import Tensor


def clip_in_step(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Have a fused optimizer's next step divide all gradients by what brings their norm down to a limit.

    What ``torch.nn.utils.clip_grad_norm_`` does, but that the optimizer, which reads every gradient anyway, does it.

    Args:
        optimizer: A fused optimizer whose gradients no GradScaler has scaled.
        limit: The highest norm.
    """
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    norm = gradient_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    # The attribute is there for a GradScaler; it stays on the device. torch's clipping adds 1e-6 as well.
    optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1)  # type: ignore[attr-defined]


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all numbers of some tensors. *Shape:* ()."""
    if not all(gradient.is_cpu for gradient in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    # On a CPU, torch adds a whole tensor's squares up in one type-wide sum: slow, and of millions of numbers right to
    # four digits only. Row by row it is neither.
    norm = torch.linalg.vector_norm
    rows = [norm(gradient, dim=-1, dtype=torch.promote_types(gradient.dtype, torch.float32)) for gradient in gradients]
    total: Tensor = norm(torch.stack([norm(norms, dtype=torch.float64) for norms in rows]))
    return total.float()
