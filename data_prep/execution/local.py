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

from data_prep.execution.encoding.process import EncoderProcess, use
from zoomldm.errors import ConfigError, UserError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Died:
    """The process that worked on a job ended or was stopped before it had a result."""

    reason: str


class Executor(Protocol):
    """Yields (position in ``jobs``, result) in the order of completion; a ``UserError`` in a job ends the run.

    encoder: configuration of the tile encoder that the jobs call, for executors that let workers share it.
    """

    def map(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], *, encoder: dict[str, Any] | None = None
    ) -> Iterator[tuple[int, Any]]: ...


class SerialExecutor:
    """Every job in this process, one after the other: for tests and debuggers."""

    def map(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], *, encoder: dict[str, Any] | None = None
    ) -> Iterator[tuple[int, Any]]:
        for position, job in enumerate(jobs):
            yield position, function(job)


class LocalExecutor:
    """Worker processes on this machine, started afresh (spawn), one job at a time each.

    Args:
        workers: how many processes.
        timeout_s: a job that takes longer is stopped and counts as died; None for no limit.
        encoders: processes that encode tiles for all workers (``shared_encoders``); 0: each worker encodes its own.
    """

    def __init__(self, workers: int, timeout_s: float | None = None, encoders: int | None = 0) -> None:
        self.workers, self.timeout_s, self.encoders = max(1, workers), timeout_s, encoders

    def map(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], *, encoder: dict[str, Any] | None = None
    ) -> Iterator[tuple[int, Any]]:
        waiting = list(enumerate(jobs))[::-1]
        running: list[_Worker] = []
        shared: list[EncoderProcess] = []
        started = 0
        if encoder and jobs:
            shared = [EncoderProcess(encoder, n) for n in range(shared_encoders(encoder, self.encoders))]
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    link = (shared[started % len(shared)].connect(), encoder) if shared else None
                    running.append(_Worker(function, started, link))
                    started += 1
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
            for process in shared:
                process.stop()


def shared_encoders(config: dict[str, Any], wanted: int | None) -> int:
    """Return how many encoders the workers share: as many as wanted, by default one for each GPU of this machine."""
    if wanted is not None or config["name"] == "stats":
        return wanted or 0
    import torch

    return torch.cuda.device_count()


class _Worker:
    """One process and the pipe to it."""

    def __init__(
        self, function: Callable[[Any], Any], number: int, link: tuple[Connection, dict[str, Any]] | None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(child, function, number, link), daemon=True)
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        try:
            self.process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        child.close()
        if link:
            link[0].close()
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


def _serve(
    pipe: Connection, function: Callable[[Any], Any], number: int, link: tuple[Connection, dict[str, Any]] | None
) -> None:
    os.environ["ZOOMLDM_WORKER"] = str(number)
    told = link is None
    while True:
        try:
            job = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        if job is None:
            return
        try:
            if not told:
                use(*link)
                told = True
            result: Any = function(job)
        except KeyboardInterrupt:
            return
        except Exception as error:
            result = fault_of(error)
        pipe.send(result)


def fault_of(error: Exception) -> Exception:
    """Return a job's error as it travels between processes: a user's as it is, others with their traceback."""
    if isinstance(error, UserError):
        return error
    import traceback

    return RuntimeError("".join(traceback.format_exception(error)))


def make_executor(
    name: str, workers: int | None, timeout_s: float | None = None, encoders: int | None = None
) -> Executor:
    """Return the executor of a name.

    Raises:
        ConfigError: no such executor, a number that makes no sense, or Ray is not installed.
    """
    for key, number, least in (("workers", workers, 1), ("encoders", encoders, 0)):
        if number is not None and number < least:
            raise ConfigError(f"{key}={number}: expected {least} or more, or null to have it chosen")
    if name == "local":
        return LocalExecutor(workers or available_cores(), timeout_s, encoders)
    if name == "serial":
        return SerialExecutor()
    if name == "ray":
        from data_prep.execution.ray import RayExecutor

        return RayExecutor(workers, timeout_s, encoders)
    raise ConfigError(f"executor={name}: expected local, ray or serial")


def available_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
