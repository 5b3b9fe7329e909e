"""Worker processes on this machine, started afresh (spawn), one job at a time each.

Our own pool, since each worker has its own pipe to a shared encoder, a job that dies or hangs takes only its process
with it, and workers end with their parent; ``concurrent.futures`` breaks whole where one process dies.
"""

import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from data_prep.execution.encoding.process import EncoderProcess, use
from data_prep.execution.executor import THREAD_VARIABLES, Died, JobT, Patience, ResultT, fault_of
from data_prep.execution.parent import END_S, end, follow_parent, limit_sends
from zoomldm.config import Option
from zoomldm.errors import UserError

POLL_S = 1.0
START_S = 900.0
"""How long a process may take to start and to take in its job."""
_READY = object()


class LocalExecutor:
    """Jobs in processes of this machine.

    Args:
        workers: how many processes.
        timeout_s: a job that takes longer is stopped and counts as died; None for no limit. A worker's start does not
            count.
        encoders: processes that encode tiles for all workers (``shared_encoders``); 0: each worker encodes its own.
    """

    def __init__(self, workers: int, *, timeout_s: float | None = None, encoders: int | None = 0) -> None:
        self.workers, self.timeout_s, self.encoders = max(1, workers), timeout_s, encoders

    def map(
        self, function: Callable[[JobT], ResultT], jobs: Sequence[JobT], *, encoder: Option | None = None
    ) -> Iterator[tuple[int, ResultT | Died]]:
        waiting = list(enumerate(jobs))[::-1]
        running: list[_Worker] = []
        shared: list[EncoderProcess] = []
        num_started, patience = 0, Patience()
        try:
            if encoder and jobs:
                shared = [EncoderProcess(encoder, n) for n in range(shared_encoders(encoder, self.encoders))]
            while waiting or running:
                while waiting and len(running) < self.workers:
                    link = (shared[num_started % len(shared)].connect(), encoder) if shared else None
                    running.append(_Worker(function, num_started, link))
                    running[-1].give(*waiting.pop())
                    num_started += 1
                patience.check(len(running))
                for worker, result in self._results(running):
                    patience.renew()
                    number = worker.number
                    if isinstance(result, Died) or not waiting:
                        worker.stop(at_once=isinstance(result, Died))
                        running.remove(worker)
                    else:
                        worker.give(*waiting.pop())
                    if isinstance(result, Exception):
                        raise result
                    yield number, result
        finally:
            for process in [*running, *shared]:
                process.stop()

    def _results(self, running: list["_Worker"]) -> list[tuple["_Worker", Any]]:
        """Wait a while and return the workers that have a result, have died, or take too long."""
        ready = wait([w.pipe for w in running] + [w.process.sentinel for w in running], timeout=POLL_S)
        found = []
        for worker in running:
            if worker.pipe in ready or worker.process.sentinel in ready:
                result = worker.take()
                if result is not _READY:
                    found.append((worker, result))
            elif worker.elapsed_s() > (self.timeout_s or math.inf):
                found.append((worker, Died(f"took longer than {self.timeout_s:g} s")))
        return found


def shared_encoders(encoder: Option, wanted: int | None) -> int:
    """Return how many encoders the workers share: as many as wanted, by default one for each GPU of this machine.

    One without weights is fastest in the workers themselves.
    """
    if wanted is not None or not encoder.arguments.get("weights"):
        return wanted or 0
    import torch

    return torch.cuda.device_count()


class _Worker:
    """One process, the pipe to it, and the ``number`` of the job that it has."""

    def __init__(
        self, function: Callable[[Any], Any], worker_number: int, link: tuple[Connection, Option] | None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(child, function, worker_number, link), daemon=True)
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
        limit_sends(self.pipe, START_S)
        self.number, self._is_ready, self._began = -1, False, 0.0

    def give(self, number: int, job: Any) -> None:
        self.number, self._began = number, time.monotonic()
        try:
            self.pipe.send(job)
        except BlockingIOError as error:
            raise self._not_started() from error
        except OSError:  # it has died; `take` says so
            pass

    def take(self) -> Any:
        """Return ``_READY`` once, when the process has started, then a result for each job."""
        try:
            received = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return Died(f"its process ended with code {self.process.exitcode}")
        if not self._is_ready:
            self._is_ready, self._began = True, time.monotonic()
            return _READY
        return received

    def elapsed_s(self) -> float:
        """Return how long the process has worked on its job.

        Raises:
            UserError: it should have started long ago.
        """
        elapsed_s = time.monotonic() - self._began
        if not self._is_ready and elapsed_s > START_S:
            raise self._not_started()
        return elapsed_s if self._is_ready else 0.0

    def _not_started(self) -> UserError:
        return UserError(
            f"process {self.process.pid} has not begun its job within {START_S:g} s: the disk with Python or this "
            "checkout hangs, or the machine is out of memory. Mend that, then run the same command again"
        )

    def stop(self, at_once: bool = True) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(0 if at_once else END_S)
        end(self.process)
        self.pipe.close()


def _serve(
    pipe: Connection, function: Callable[[Any], Any], worker_number: int, link: tuple[Connection, Option] | None
) -> None:
    os.environ["ZOOMLDM_WORKER"] = str(worker_number)
    follow_parent()
    with contextlib.suppress(OSError):
        pipe.send(None)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while (job := pipe.recv()) is not None:
            try:
                if link is not None:
                    use(*link)
                    link = None
                result: Any = function(job)
            except Exception as error:
                result = fault_of(error)
            pipe.send(result)
