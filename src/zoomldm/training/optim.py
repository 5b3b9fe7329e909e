"""The optimiser and its learning rate: AdamW, a linear warm-up, then constant or a cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from zoomldm.model.trainable import Trainable
from zoomldm.training.settings import OptimSettings


def learning_rate(settings: OptimSettings, step: int, total_steps: int) -> float:
    """Return the rate of the step after `step` steps were made."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.schedule == "constant":
        return settings.peak_lr * warm
    done = max(0, step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps)
    return settings.peak_lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def build_optimizer(trainable: Trainable, settings: OptimSettings) -> torch.optim.AdamW:
    """Build the fused AdamW over the trainable's parameter groups."""
    return torch.optim.AdamW(
        trainable.param_groups(),
        lr=settings.peak_lr,
        betas=tuple(settings.betas),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def names_in_order(trainable: Trainable, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the names of the optimiser's parameters in the order by which its state numbers them."""
    names = {id(parameter): name for name, parameter in trainable.trained_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def first_names(trainable: Trainable) -> list[str]:
    """Return the order of the first version, which saved no names and decayed all that is no vector."""
    named = list(trainable.trained_parameters())
    return [n for n, p in named if p.ndim >= 2] + [n for n, p in named if p.ndim < 2]


def load_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], *, names: Sequence[str], now: Sequence[str]
) -> None:
    """Take the moments that were saved; rate, decay and betas stay those that the settings of now say.

    Args:
        names, now: of the parameters, in the order of the saved state and of the optimiser. Moments go by name; a
            parameter that was not trained then begins without.
    """
    number = {name: index for index, name in enumerate(now)}
    state = {number[names[index]]: moments for index, moments in saved["state"].items() if names[index] in number}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
