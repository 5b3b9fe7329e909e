"""Where a run computes: devices, precision, processes. conf/fabric/*.yaml, on Lightning Fabric.

Several processes on one machine are started here and not by Fabric, whose launcher repeats the parent's command line:
under a Hydra sweep that is the sweep itself. The job that Hydra runs becomes a supervisor; each rank is the same script
with this job's own overrides, `-m` not among them. Under torchrun and srun the processes are there already.
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

from lightning_fabric import Fabric

from zoomldm.errors import UserError
from zoomldm.launch.preempt import EXIT_PREEMPTED, Preempted
from zoomldm.launch.settings import PRECISIONS, FabricSettings

RANKS_VARIABLE = "ZOOMLDM_RANKS"
"""Set in the processes that a supervisor started: how many there are."""
GRACE_S = 60.0


def is_worker() -> bool:
    """Say whether this process is one rank of several that something else started: a supervisor, torchrun, srun."""
    return any(name in os.environ for name in (RANKS_VARIABLE, "TORCHELASTIC_RUN_ID")) or _slurm_tasks() > 1


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
def connected(settings: FabricSettings) -> Iterator[Fabric]:
    """Set the devices up, join the process group and leave it at the end."""
    import torch
    from lightning_fabric.plugins.environments import LightningEnvironment

    count = settings.num_devices
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.backends.cudnn.benchmark = not settings.deterministic
    torch.set_float32_matmul_precision("high" if settings.on_gpu and not settings.deterministic else "highest")
    many = count > 1 or settings.num_nodes > 1 or is_worker()
    fabric = Fabric(
        accelerator="cuda" if settings.on_gpu else "cpu",
        devices=count if many or settings.on_gpu else 1,
        num_nodes=settings.num_nodes,
        precision=PRECISIONS[str(settings.precision)] or ("bf16-mixed" if settings.on_gpu else "32-true"),
        strategy="ddp" if many else "auto",
        plugins=[LightningEnvironment()] if RANKS_VARIABLE in os.environ else None,
    )
    fabric.launch()
    try:
        yield fabric
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


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
    deadline = time.monotonic() + GRACE_S / 6
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


def _slurm_tasks() -> int:
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
