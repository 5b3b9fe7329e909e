"""Run jobs in processes: one small interface, with this process, local ones or (optional extra) Ray behind it.

A job is a picklable argument of a module-level function. A process that dies in a job is a result like others
(``Died``), and the rest goes on in a fresh process.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from zoomldm.config import Option
from zoomldm.errors import ConfigError, UserError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
STILL_S = 24 * 3600.0
"""Without a job that ends, when waiting for one has an end."""
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Died:
    """The process that worked on a job ended or was stopped before it had a result."""

    reason: str


class Patience:
    """The time since a job has ended last, which has a limit also where ``timeout_s`` sets none."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._since = time.monotonic()

    def check(self, num_running: int) -> None:
        """Give up where nothing has ended for too long.

        Raises:
            UserError: says for how long, and what to do.
        """
        if time.monotonic() - self._since > STILL_S:
            raise UserError(
                f"none of the {num_running} jobs at work has ended for {STILL_S / 3600:g} h: a disk or encoder hangs, "
                "or a cluster is busy with others. Look at its processes, then run the same command again: it goes on "
                "from here; timeout_s= stops a job that takes longer, and the others go on"
            )


class Executor(Protocol):
    """Yields (number of the job in ``jobs``, result) in the order of completion; an error in a job ends the run.

    encoder: the tile encoder that the jobs call, for executors that let workers share it.
    """

    def map(
        self, function: Callable[[JobT], ResultT], jobs: Sequence[JobT], *, encoder: Option | None = None
    ) -> Iterator[tuple[int, ResultT | Died]]: ...


def make_executor(
    name: str, *, workers: int | None = None, timeout_s: float | None = None, encoders: int | None = None
) -> Executor:
    """Return the executor of a name.

    Raises:
        ConfigError: no such executor, a number that makes no sense, or Ray is not installed.
    """
    for key, number, least in (("workers", workers, 1), ("encoders", encoders, 0)):
        if number is not None and number < least:
            raise ConfigError(f"{key}={number}: expected {least} or more, or null to have it chosen")
    if name == "local":
        from data_prep.execution.local import LocalExecutor

        return LocalExecutor(workers or available_cores(), timeout_s=timeout_s, encoders=encoders)
    if name == "serial":
        from data_prep.execution.serial import SerialExecutor

        return SerialExecutor()
    if name == "ray":
        from data_prep.execution.ray import RayExecutor

        return RayExecutor(workers, timeout_s=timeout_s, encoders=encoders)
    raise ConfigError(f"executor={name}: expected local, ray or serial")


def available_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fault_of(error: Exception) -> Exception:
    """Return a job's error as it travels between processes: a user's as it is, others with their traceback."""
    if isinstance(error, UserError):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))
