"""AdamW with a learning-rate schedule, and gradient clipping by the norm (Pascanu et al. 2013) within the optimizer."""

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from xner.errors import UserError
from xner.model.fast.products import in_first_process

logger = logging.getLogger(__name__)

Schedule = Literal["linear", "cosine", "constant"]
"""The learning rate after warm-up: linear or cosine to zero, or constant."""


def check_options(learning_rate: float, weight_decay: float, warmup_ratio: float) -> None:
    """Check the options of the optimizer.

    Raises:
        UserError: If one is out of its range.
    """
    if not 0 < learning_rate < math.inf:
        raise UserError(f"model.learning_rate={learning_rate} is not above 0 and finite; use a number such as 2e-5")
    if not 0 <= weight_decay < math.inf:
        raise UserError(f"model.weight_decay={weight_decay} is not 0 or more and finite; use a number such as 0.01")
    if not 0 <= warmup_ratio <= 1:
        raise UserError(f"model.warmup_ratio={warmup_ratio} is not between 0 and 1; use a fraction of all steps")


def check_own_rate(option: str, rate: float | None, example: str) -> None:
    """Check a learning rate of some stages; null is that of the others.

    Raises:
        UserError: If it is not positive and finite.
    """
    if rate is not None and not 0 < rate < math.inf:
        raise UserError(f"{option}={rate} is not a positive number; use one such as {example}, or null")


def check_restored(asked: Mapping[str, Any], saved: Mapping[str, Any], *, fits: bool) -> None:
    """Check a classifier's options against those of the checkpoint that it is about to load.

    Args:
        asked: The classifier's options.
        saved: The options that the checkpoint was saved with.
        fits: Whether training is resumed, which restores the optimizer with the states of what was trained.

    Raises:
        UserError: If an option differs from what the checkpoint restores.
    """
    if saved.get("types") != asked["types"]:
        raise UserError(
            f"ckpt_path has the entity types {', '.join(saved.get('types') or ['unknown'])}, but the data has "
            f"{', '.join(asked['types'])}; use data.types or data.map_types"
        )
    for name in ("lora", *(("freeze", "learning_rate", "weight_decay") if fits else ())):
        if saved.get(name) != asked[name]:
            raise UserError(
                f"model.{name}={asked[name]} is not that of ckpt_path, which restores {saved.get(name)}; use the same, "
                "or start a new training from a model folder as --model.backbone"
            )


def check_same_network(own: Mapping[str, Any], weights: Mapping[str, Any], backbone: str, saved: str) -> None:
    """Check that a checkpoint holds the weights of the same network.

    Args:
        own: The ``state_dict`` of the network.
        weights: The ``state_dict`` of the checkpoint.
        backbone: The backbone of the network.
        saved: The backbone of the checkpoint's network.

    Raises:
        UserError: If the names or shapes of the weights differ.
    """
    shapes = [{name: each.shape for name, each in some.items() if isinstance(each, Tensor)} for some in (own, weights)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"ckpt_path holds another network than that of model.backbone={backbone!r}; use the backbone that it was "
            "trained from"
        )
    if saved != backbone and in_first_process():
        logger.info(
            f"the weights are those of ckpt_path, which started from model.backbone={saved!r}; of {backbone!r} only "
            "the tokenizer is used"
        )


def schedule_learning_rate(
    optimizer: torch.optim.Optimizer, schedule: Schedule, *, warmup_ratio: float, steps: float
) -> LRScheduler:
    """Make the learning-rate schedule of an optimizer, per step.

    Args:
        optimizer: The optimizer.
        schedule: The learning rate after warm-up.
        warmup_ratio: Fraction of all steps over which the learning rate rises from zero to its peak.
        steps: Number of all optimizer steps.

    Raises:
        UserError: If the number of steps is infinite.
    """
    from transformers import get_scheduler

    if math.isinf(steps):
        raise UserError("trainer.max_epochs=-1 has no end; use a number, or trainer.max_steps")
    name = "constant_with_warmup" if schedule == "constant" else schedule
    warmup = math.ceil(steps * warmup_ratio)
    if warmup >= steps:
        logger.warning(
            "model.warmup_ratio=%s warms up in all %d optimizer steps, the first of which has a learning rate of 0; "
            "train for more steps, or use 0",
            warmup_ratio,
            steps,
        )
    scheduler: LRScheduler = get_scheduler(name, optimizer, warmup, int(steps))
    return scheduler


def make_adamw(network: nn.Module, learning_rate: float, weight_decay: float, *, fused: bool) -> torch.optim.AdamW:
    """Make an optimizer that frees the gradients after each step.

    Callbacks find gradients in ``on_after_backward`` and ``on_before_optimizer_step``, and not afterwards.

    Args:
        network: The network whose parameters are trained, in the groups of ``decay_groups``.
        learning_rate: The peak learning rate.
        weight_decay: The weight decay.
        fused: Whether one kernel updates all parameters.
    """
    optimizer = torch.optim.AdamW(decay_groups(network, weight_decay), lr=learning_rate, fused=fused)
    # Lightning frees them after the next forward pass, when they and its activations have taken memory together.
    optimizer.register_step_post_hook(lambda own, *_: own.zero_grad())
    return optimizer


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the trained parameters for an optimizer: those with weight decay, and biases and LayerNorm without."""
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


def clip_gradients(
    parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, limit: float, *, by_value: bool, in_step: bool
) -> Tensor | None:
    """Clip all gradients.

    Args:
        parameters: The trained parameters.
        optimizer: The optimizer.
        limit: The highest norm, or the highest value.
        by_value: Whether to clip each value, not the norm.
        in_step: Whether the optimizer may clip the norm in its next step, if it can.

    Returns:
        The norm before clipping, ``None`` where values are clipped. *Shape:* ()
    """
    if by_value:
        nn.utils.clip_grad_value_(parameters, limit)
        return None
    if in_step and clips_in_step(optimizer):
        return clip_in_step(optimizer, limit)
    return nn.utils.clip_grad_norm_(parameters, limit)


def clips_in_step(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``clip_in_step`` supports an optimizer: a fused one of float32 on a CPU or an NVIDIA GPU.

    Resuming from a checkpoint may have changed whether a group is fused.
    """
    return all(
        group["fused"]
        and all(each.device.type in ("cpu", "cuda") and each.dtype == torch.float32 for each in group["params"])
        for group in optimizer.param_groups
    )


def clip_in_step(optimizer: torch.optim.Optimizer, limit: float) -> Tensor:
    """Let the next step of a fused optimizer clip the gradients, as ``torch.nn.utils.clip_grad_norm_`` would.

    The optimizer reads every gradient anyway, so this saves a pass over them.

    Args:
        optimizer: One that ``clips_in_step``, whose gradients no GradScaler has scaled.
        limit: The highest norm.

    Returns:
        The norm before clipping. *Shape:* ()
    """
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    norm = gradient_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    # The attribute that a GradScaler sets; it stays on the device. PyTorch's clipping adds 1e-6 as well.
    optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1)  # type: ignore[attr-defined]
    return norm


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """Compute the Euclidean norm of all numbers of the gradients. *Shape:* ()."""
    if not all(gradient.is_cpu for gradient in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    # On a CPU, PyTorch sums all squares of a tensor in one float32 sum: slow, and for millions of numbers right to four
    # digits only. Row by row it is neither.
    norm = torch.linalg.vector_norm
    total: Tensor = norm(torch.stack([norm(norm(gradient, dim=-1), dtype=torch.float64) for gradient in gradients]))
    return total.float()
