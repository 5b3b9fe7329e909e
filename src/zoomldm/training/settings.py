"""What a training is told: how it goes and how it learns. Imports nothing heavy: the command line checks it."""

from __future__ import annotations

from dataclasses import dataclass

from zoomldm.errors import ConfigError

SCHEDULES = ("constant", "cosine")
LR_SCALES = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """conf/model/*.yaml, section `train`, and what no model changes. Intervals are in steps; None or 0 is never.

    validation_samples: a magnification; recalibration_samples: by which batch norm's statistics are measured under EMA
    weights; statistics_samples: by which a stage measures what it must know before the first step; explosion_factor:
    how many times the first loss ends the run; preempt_every: steps between agreements of several processes on whether
    a signal came.
    """

    steps: int
    log_every: int
    validate_every: int | None
    validation_samples: int
    sample_every: int | None
    checkpoint_every: int | None
    keep_last: int = 2
    keep_every: int | None
    recalibration_samples: int = 1024
    statistics_samples: int = 2048
    explosion_factor: float = 20.0
    preempt_every: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1 or self.log_every < 1:
            raise ConfigError(f"train.steps={self.steps}, train.log_every={self.log_every}: expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """conf/optim/*.yaml, and what none of them changes.

    lr: the rate after warm-up, whatever the number of devices; lr_scale: none, or sqrt or linear, which multiply it by
    (batch_size / lr_reference_batch) to the power 1/2 or 1; batch_size: global; max_micro_batch: what one device holds.
    """

    lr: float
    batch_size: int
    max_micro_batch: int
    warmup_steps: int
    schedule: str
    weight_decay: float
    betas: tuple[float, float]
    clip_norm: float | None
    ema_decay: float
    lr_scale: str = "none"
    lr_reference_batch: int | None = None

    def __post_init__(self) -> None:
        faults = []
        if not self.lr > 0:
            faults.append(f"optim.lr={self.lr}: expected a number above 0")
        for name, least in (("batch_size", 1), ("max_micro_batch", 1), ("warmup_steps", 0)):
            if not getattr(self, name) >= least:
                faults.append(f"optim.{name}={getattr(self, name)}: expected {least} or more")
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
