"""What AdamW decays, and clipping gradients by their norm (Pascanu et al. 2013) without a pass over them of its own."""

from typing import Any

import torch
from torch import Tensor, nn


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters as an optimizer takes them: those with weight decay, and biases and LayerNorm without."""
    spared = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("bias") or isinstance(module, nn.LayerNorm)
    }
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
    ]


def clips_in_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``clip_in_step`` can be used: torch has the optimizer divide numbers of 32 bits, on a CPU or NVIDIA GPU.

    A group says whether it is fused: resuming from a checkpoint may have changed that.
    """
    return all(
        group["fused"]
        and all(each.device.type in ("cpu", "cuda") and each.dtype == torch.float32 for each in group["params"])
        for group in optimizer.param_groups
    )


def clip_in_step(optimizer: torch.optim.Optimizer, limit: float) -> Tensor:
    """Have a fused optimizer's next step divide all gradients by what brings their norm down to a limit.

    What ``torch.nn.utils.clip_grad_norm_`` does, but that the optimizer, which reads every gradient anyway, does it.

    Args:
        optimizer: One that ``clips_in_step``, whose gradients no GradScaler has scaled.
        limit: The highest norm.

    Returns:
        The norm before clipping. *Shape:* ()
    """
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    norm = gradient_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    # The attribute is there for a GradScaler; it stays on the device. torch's clipping adds 1e-6 as well.
    optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1)  # type: ignore[attr-defined]
    return norm


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all numbers of some tensors. *Shape:* ()."""
    if not all(gradient.is_cpu for gradient in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    # On a CPU, torch adds a whole tensor's squares up in one type-wide sum: slow, and of millions of numbers right to
    # four digits only. Row by row it is neither.
    norm = torch.linalg.vector_norm
    total: Tensor = norm(torch.stack([norm(norm(gradient, dim=-1), dtype=torch.float64) for gradient in gradients]))
    return total.float()
