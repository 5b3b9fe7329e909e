"""Run jobs in processes: one small interface, with local processes or (optional extra) Ray behind it.

A job is a picklable argument of a module-level function. A process that dies in a job is a result like others
(``Died``), and the rest goes on in a fresh process.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from zoomldm.errors import ConfigError, UserError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Died:
    """The process that worked on a job ended or was stopped before it had a result."""

    reason: str


class Executor(Protocol):
    """Yields (position in ``jobs``, result) in the order of completion; a ``UserError`` in a job ends the run."""

    def map(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]: ...


class SerialExecutor:
    """Every job in this process, one after the other: for tests and debuggers."""

    def map(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for position, job in enumerate(jobs):
            yield position, function(job)


class LocalExecutor:
    """Worker processes on this machine, started afresh (spawn), one job at a time each.

    Args:
        workers: how many processes.
        timeout_s: a job that takes longer is stopped and counts as died; None for no limit.
    """

    def __init__(self, workers: int, timeout_s: float | None = None) -> None:
        self.workers, self.timeout_s = max(1, workers), timeout_s

    def map(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        waiting = list(enumerate(jobs))[::-1]
        running: list[_Worker] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    running.append(_Worker(function, len(running)))
                    running[-1].give(waiting.pop())
                ready = wait([w.pipe for w in running] + [w.process.sentinel for w in running], timeout=1.0)
                for worker in list(running):
                    if worker.pipe in ready or worker.process.sentinel in ready:
                        position, result = worker.take()
                    elif self.timeout_s and time.monotonic() - worker.began > self.timeout_s:
                        position, result = (
                            worker.position,
                            Died(f"took longer than {self.timeout_s:g} s"),
                        )
                    else:
                        continue
                    if isinstance(result, Died) or not waiting:
                        worker.stop(at_once=isinstance(result, Died))
                        running.remove(worker)
                    else:
                        worker.give(waiting.pop())
                    if isinstance(result, Exception):
                        raise result
                    yield position, result
        finally:
            for worker in running:
                worker.stop(at_once=True)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, function: Callable[[Any], Any], number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(child, function, number), daemon=True)
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        try:
            self.process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        child.close()
        self.position, self.began = -1, 0.0

    def give(self, job: tuple[int, Any]) -> None:
        self.position, self.began = job[0], time.monotonic()
        with contextlib.suppress(OSError):  # it has died; `take` says so
            self.pipe.send(job[1])

    def take(self) -> tuple[int, Any]:
        try:
            return self.position, self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return self.position, Died(f"its process ended with code {self.process.exitcode}")

    def stop(self, at_once: bool) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        if at_once:
            self.process.kill()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, function: Callable[[Any], Any], number: int) -> None:
    os.environ["ZOOMLDM_WORKER"] = str(number)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        if job is None:
            return
        try:
            result: Any = function(job)
        except KeyboardInterrupt:
            return
        except UserError as error:
            result = error
        except Exception as error:
            import traceback

            result = RuntimeError("".join(traceback.format_exception(error)))
        pipe.send(result)


def make_executor(name: str, workers: int | None, timeout_s: float | None = None) -> Executor:
    """Return the executor of a name.

    Raises:
        ConfigError: no such executor, or Ray is not installed.
    """
    workers = workers or available_cores()
    if name == "local":
        return LocalExecutor(workers, timeout_s)
    if name == "serial":
        return SerialExecutor()
    raise ConfigError(f"executor={name}: expected local or serial")


def available_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
