"""What a training writes and says: metrics.jsonl, the tracker, lines on the screen. Only the first process does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from zoomldm.data.order.loader import Partition
from zoomldm.runs.checkpoint import CheckpointInfo
from zoomldm.runs.run import Run
from zoomldm.tracking.base import Tracker
from zoomldm.training.settings import OptimSettings


@dataclass(frozen=True)
class Reporter:
    """Follows one run; every call of another process than the first returns at once."""

    run: Run
    tracker: Tracker
    is_first: bool = True

    def say(self, line: str) -> None:
        """Print a line with the run's name."""
        if self.is_first:
            print(f"[{self.run.name}] {line}", flush=True)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append metrics to the run's records."""
        if self.is_first:
            self.run.metrics.write(step, metrics)
            self.tracker.notify()

    def picture(self, path: Path | None) -> None:
        """Give a picture to the tracker."""
        if path is not None:
            self.tracker.artifact(path)

    def plan(self, optim: OptimSettings, part: Partition, fabric: Fabric) -> None:
        """Say how the global batch is divided, how fast is learnt and where."""
        scaled = "" if optim.lr_scale == "none" else f" ({optim.lr_scale} scaling of {optim.lr:g})"
        self.say(
            f"global batch {part.global_batch} = {part.world_size} process{'es' if part.world_size > 1 else ''} × "
            f"{part.accumulation} accumulated × {part.micro_batch}; learning rate {optim.peak_lr:g}{scaled}; "
            f"{fabric.device.type}, {fabric._precision.precision}"
        )

    def go_back_to(self, step: int) -> None:
        """Take away the metrics of steps that are made again."""
        if self.is_first:
            self.run.metrics.truncate(step)

    def going_on(self, info: CheckpointInfo, part: Partition) -> None:
        """Say from where training goes on, and what another division of the batch changes."""
        self.say(f"going on from step {info.step}")
        if (info.world_size, info.micro_batch) != (part.world_size, part.micro_batch):
            self.say(
                f"{info.world_size} × {info.micro_batch} samples at once before, {part.world_size} × "
                f"{part.micro_batch} now: the same samples and noise, but sums in another order and batch norm over "
                "other parts of the global batch, so no longer the same bits"
            )

    def progress(self, step: int, steps: int, loss: float, figures: Mapping[str, float | None]) -> None:
        """Say the loss and the speed since the last time (figures: of PerfMeter)."""
        mfu = f"  MFU {figures['mfu']:.0%}" if figures["mfu"] else ""
        self.say(
            f"step {step}/{steps}  loss {loss:.4f}  {figures['images_per_s']:.0f} images/s  waiting for data "
            f"{figures['loader_wait']:.0%}{mfu}  {duration(figures['remaining_s'])} left"
        )

    def end(self, *, finished: bool) -> None:
        """Note how the run ended."""
        if self.is_first:
            self.run.update(status="finished" if finished else "stopped")
            if not finished:
                self.tracker.sync()  # a scheduler that is told so may end this process at once


def duration(seconds: float) -> str:
    """Return seconds as people read them: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
