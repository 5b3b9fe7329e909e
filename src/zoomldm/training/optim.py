"""The optimiser and its learning rate: AdamW, a linear warm-up, then constant or a cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zoomldm.errors import ConfigError
from zoomldm.model.trainable import Trainable

SCHEDULES = ("constant", "cosine")
LR_SCALES = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """conf/model/*.yaml, section `optim`.

    lr: the rate after warm-up, whatever the number of devices; lr_scale: none, or sqrt or linear, which multiply it by
    (batch_size / lr_reference_batch) to the power 1/2 or 1; batch_size: global; max_micro_batch: what one device holds.
    """

    lr: float
    batch_size: int
    max_micro_batch: int
    warmup_steps: int = 0
    schedule: str = "constant"
    weight_decay: float = 0.0
    betas: Sequence[float] = (0.9, 0.999)
    clip_norm: float | None = None
    ema_decay: float = 0.9999
    lr_scale: str = "none"
    lr_reference_batch: int | None = None

    def __post_init__(self) -> None:
        faults = []
        if not self.lr > 0:
            faults.append(f"optim.lr={self.lr}: expected a number above 0")
        if self.schedule not in SCHEDULES:
            faults.append(f"optim.schedule={self.schedule}: expected one of {', '.join(SCHEDULES)}")
        if self.lr_scale not in LR_SCALES:
            faults.append(f"optim.lr_scale={self.lr_scale}: expected one of {', '.join(LR_SCALES)}")
        elif self.lr_scale != "none" and not self.lr_reference_batch:
            faults.append(
                f"optim.lr_scale={self.lr_scale} needs optim.lr_reference_batch, the batch that lr is meant for"
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            faults.append(f"optim.clip_norm={self.clip_norm}: expected a number above 0, or null")
        if not 0 <= self.ema_decay < 1:
            faults.append(f"optim.ema_decay={self.ema_decay}: expected a number from 0 to below 1")
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def peak_lr(self) -> float:
        """The rate after warm-up, with the scale rule applied."""
        return self.lr * (self.batch_size / (self.lr_reference_batch or self.batch_size)) ** LR_SCALES[self.lr_scale]


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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
