"""Processes that end at a chosen step: before a rename, link, unlink, rmdir or fsync (``files.before_step``)."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from data_prep.execution.executor import Died, fault_of
from zoomldm import files

STOPPED, FAILED = 86, 87
is_worker = False


@contextmanager
def at_each_step(action: Callable[[str], None]) -> Iterator[None]:
    """Call ``action`` with the words of each step: ``fsync state.json``."""
    files.before_step = lambda kind, path: action(f"{kind} {path.name}")
    try:
        yield
    finally:
        files.before_step = None


class AtStep:
    """Does something at one step, counted over this process and its forks together.

    Args:
        workers: count the steps of `ForkExecutor`'s processes alone.
    """

    def __init__(self, number: int, action: Callable[[], None], *, workers: bool) -> None:
        self.number, self.action, self.workers = number, action, workers
        self.count = multiprocessing.Value("i", 0)

    def __call__(self, step: str) -> None:
        if self.workers and not is_worker:
            return
        with self.count.get_lock():
            self.count.value += 1
            is_now = self.count.value == self.number
        if is_now:
            self.action()


def stop() -> None:
    os._exit(STOPPED)


def kill_parent() -> None:
    """Kill the process that started this one, which goes on to the end of its job."""
    os.kill(os.getppid(), signal.SIGKILL)


def kill_both() -> None:
    kill_parent()
    stop()


def disturbed(work: Callable[[], Any], number: int, action: Callable[[], None], *, workers: bool = False) -> int:
    """Do some work in a fork of this process and ``action`` at a step of it; return how many steps there were."""
    at_step = AtStep(number, action, workers=workers)

    def counted() -> None:
        with at_each_step(at_step):
            work()

    os.waitpid(forked(counted), 0)
    return at_step.count.value


def forked(work: Callable[[], None]) -> int:
    """Start some work in a fork of this process, which says nothing; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        work()
        code = 0
    finally:
        os._exit(code)


class ForkExecutor:
    """Every job in a fork of this process, one after the other: its death is a result, as it is with real workers."""

    def map(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], *, encoder: Any = None
    ) -> Iterator[tuple[int, Any]]:
        for number, job in enumerate(jobs):
            result = _in_a_fork(function, job)
            if isinstance(result, Exception):
                raise result
            yield number, result


def _in_a_fork(function: Callable[[Any], Any], job: Any) -> Any:
    reader, writer = os.pipe()

    def work() -> None:
        global is_worker
        is_worker = True
        try:
            result = function(job)
        except Exception as error:
            result = fault_of(error)
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(result, stream)

    pid = forked(work)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        content = stream.read()
    os.waitpid(pid, 0)
    return pickle.loads(content) if content else Died("its process ended")
