"""Several processes on one machine: a supervisor starts the ranks, hands signals on and ends them together.

They are started here and not by Fabric, whose launcher repeats the parent's command line: under a Hydra sweep that is
the sweep itself. The job that Hydra runs becomes a supervisor; each rank is the same script with this job's own
overrides, `-m` not among them. Under torchrun and srun the processes are there already.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.launch.preempt import EXIT_PREEMPTED, Preempted
from zoomldm.launch.processes import RANKS_VARIABLE, is_worker
from zoomldm.launch.settings import FabricSettings

GRACE_S = 10.0
"""What ranks that are asked to end have, before they are killed."""


def needs_supervisor(settings: FabricSettings) -> bool:
    """Say whether this process must start the ranks (and do nothing else)."""
    return not is_worker() and settings.num_devices > 1 and settings.num_nodes == 1


def supervise(settings: FabricSettings, command: Sequence[str]) -> None:
    """Run `command` once for each rank and wait; signals are handed on; one rank's failure ends the others.

    Raises:
        UserError: a rank failed; its own message was printed by it.
        Preempted: the ranks stopped because a signal asked them to.
    """
    count = settings.num_devices
    common = {
        RANKS_VARIABLE: str(count),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "NODE_RANK": "0",
    }
    if not settings.on_gpu:
        common.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    ranks = [
        subprocess.Popen(list(command), env={**os.environ, **common, "LOCAL_RANK": str(rank), "RANK": str(rank)})
        for rank in range(count)
    ]
    with _handing_on_signals(ranks):
        try:
            code = _wait(ranks)
        finally:
            _end(ranks)
    if code == EXIT_PREEMPTED:
        raise Preempted()
    if code:
        raise UserError(f"one of the {count} processes ended with code {code}; its message is above")


def job_command(script: str | Path, overrides: Sequence[str], hydra_overrides: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs one job of a sweep by itself.

    overrides and hydra_overrides: HydraConfig.get().overrides.task and .hydra of the job.
    """
    dropped = ("hydra.mode", "hydra.sweep", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper")
    kept = [word for word in hydra_overrides if not word.lstrip("+~").startswith(dropped)]
    return [sys.executable, str(script), *overrides, *kept, "hydra.mode=RUN"]


@contextmanager
def _handing_on_signals(ranks: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Send what this process is sent to every rank."""

    def hand_on(number: int, frame: object) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        try:
            before[number] = signal.signal(number, hand_on)
        except ValueError:  # not the main thread
            break
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(ranks: Sequence[subprocess.Popen]) -> int:
    """Return the first exit code that is not 0, as soon as there is one, else 0 when all have ended."""
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = [code for code in codes if code]
        if failed and any(code != EXIT_PREEMPTED for code in failed):
            return next(code for code in failed if code != EXIT_PREEMPTED)
        if all(code is not None for code in codes):
            return failed[0] if failed else 0
        time.sleep(0.1)


def _end(ranks: Sequence[subprocess.Popen]) -> None:
    """End the ranks that are left: first asking, then not."""
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    deadline = time.monotonic() + GRACE_S
    for rank in ranks:
        try:
            rank.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
