"""Signals that ask a run to stop: all processes save the same step and leave.

SIGTERM, SIGUSR1 (Slurm's --signal=USR1@…) and SIGUSR2 (submitit's) set a flag; the loop asks `agreed` after every step.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from types import FrameType, TracebackType

import torch
from lightning_fabric import Fabric

EXIT_PREEMPTED = 75
"""Exit status of a run that saved and left because a signal asked it to (EX_TEMPFAIL: the same command goes on)."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Preempted(SystemExit):
    """Leave the process after a signal, when everything is saved."""

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


class Preemption:
    """Listen to the signals while the block runs.

    every: steps between the all-reduces by which the processes agree; a single process needs none and reacts at once.
    """

    def __init__(self, fabric: Fabric, every: int) -> None:
        self.fabric, self.every = fabric, every
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Preemption:
        for number in SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread: whoever runs us listens
                break
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self, step: int) -> bool:
        """Say whether to stop after `step`; all processes give the same answer."""
        if self.fabric.world_size == 1:
            return self.received is not None
        if step % self.every:
            return False
        flag = torch.tensor([int(self.received or 0)], device=self.fabric.device)
        return int(self.fabric.all_reduce(flag, reduce_op="max")) > 0

    def pass_on(self) -> None:
        """Ask the scheduler to queue the job again: by the handler that was there before (submitit), or by scontrol."""
        handler = self._before.get(self.received)
        if callable(handler) and handler is not signal.default_int_handler:
            handler(self.received, None)
        elif self.received == signal.SIGUSR1 and self.fabric.global_rank == 0:
            requeue()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number


def requeue() -> bool:
    """Queue this Slurm job again; say whether that was done."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID")
    if not job or not shutil.which("scontrol"):
        return False
    return subprocess.run(["scontrol", "requeue", job], check=False, timeout=60).returncode == 0
