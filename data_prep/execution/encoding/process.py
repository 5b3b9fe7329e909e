"""A shared encoder in a process of its own on this machine, and the pipes by which workers reach it."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Hashable
from multiprocessing.connection import Connection, wait
from queue import Queue

import numpy as np

from data_prep.execution.encoding.batcher import PATIENCE_S, Batcher, shares
from data_prep.execution.encoding.own import get_encoder, share
from data_prep.execution.encoding.queue import (
    ROWS_S,
    START_S,
    EncoderGoneError,
    SharedEncoder,
    rows_of,
    silent,
    tell,
)
from data_prep.execution.parent import end, follow_parent, limit_sends
from zoomldm.config import Option
from zoomldm.encoder.base import Encoder
from zoomldm.errors import UserError

GONE = "the encoder's process has ended; run the same command again"
AHEAD = 4
"""Whole batches that may wait in the encoder's process; more stay with the workers, which then wait."""

Batch = tuple[np.ndarray, list[tuple[Hashable, int]]]
"""Tiles, and how many of them are whose."""


class EncoderProcess:
    """The process of one encoder; ``number`` chooses the GPU where there are several."""

    def __init__(self, option: Option, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._control, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, option, number), daemon=True)
        self._process.start()
        child.close()

    def connect(self) -> Connection:
        """Return a worker's end of a new pipe.

        Raises:
            EncoderGoneError: the process has ended.
        """
        mine, worker = multiprocessing.get_context("spawn").Pipe()
        try:
            self._control.send(mine)
        except OSError as error:
            self._process.join(5)
            raise EncoderGoneError(f"the encoder's process ended with code {self._process.exitcode}") from error
        return worker

    def stop(self) -> None:
        end(self._process)
        self._control.close()


def _serve(control: Connection, option: Option, number: int) -> None:
    os.environ["ZOOMLDM_WORKER"] = str(number)
    follow_parent()
    try:
        server = _Server(control, get_encoder(option))
    except UserError as error:  # told to every worker, the first of which ends the run
        return _say_to_all(control, error)
    server.run()


def _say_to_all(control: Connection, error: UserError) -> None:
    with contextlib.suppress(EOFError):
        while True:
            worker = control.recv()
            with contextlib.suppress(OSError):  # that worker is gone
                worker.send(error)


class _Server:
    """Takes tiles from all workers into batches, in a thread, while batches are encoded and their rows sent back.

    So the device waits for no worker's pipe as long as batches are ahead, and workers read on while it is at work.
    """

    def __init__(self, control: Connection, encoder: Encoder) -> None:
        self.control, self.encoder, self.batcher = control, encoder, Batcher(encoder)
        self.senders: list[Connection] = []
        self.ahead: Queue[Batch | None] = Queue(AHEAD)

    def run(self) -> None:
        """Serve until the control pipe is closed."""
        threading.Thread(target=self._receive_all, daemon=True).start()
        while (batch := self.ahead.get()) is not None:
            self._encode(*batch)
            self.ahead.task_done()

    def _receive_all(self) -> None:
        try:
            while True:
                was_quiet = not self._receive()
                if was_quiet and not self.ahead.unfinished_tasks:
                    self.ahead.put(self.batcher.take())
                while self.batcher.is_full:
                    self.ahead.put(self.batcher.take())  # waits while enough are ahead
        except EOFError:  # the control pipe is closed
            pass
        finally:
            self.ahead.put(None)

    def _receive(self) -> bool:
        """Take in what has come, for a while where tiles wait already; say whether anything has."""
        ready = wait([self.control, *self.senders], PATIENCE_S if self.batcher.num_waiting else None)
        for pipe in ready:
            if pipe is self.control:
                self._welcome(pipe.recv())
                continue
            try:
                turn, tiles = pipe.recv()
            except (EOFError, OSError):  # that worker is gone
                self.senders.remove(pipe)
                self.batcher.forget(lambda sender, gone=pipe: sender[0] is gone)
            else:
                self.batcher.add((pipe, turn), tiles)
        return bool(ready)

    def _welcome(self, worker: Connection) -> None:
        with contextlib.suppress(OSError):
            worker.send(tell(self.encoder))
        self.senders.append(worker)

    def _encode(self, tiles: np.ndarray, owners: list[tuple[Hashable, int]]) -> None:
        for (pipe, turn), rows in shares(rows_of(self.encoder, tiles), owners):
            with contextlib.suppress(OSError):  # that worker is gone
                pipe.send((turn, rows))


class PipeLink:
    """A worker's end. A thread takes the rows in, so that neither side waits for the other with full pipes."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._turn, self._num_sent = pipe, 0, 0
        self._rows: list[np.ndarray] = []
        self._changed, self._gone = threading.Condition(), False
        limit_sends(pipe, ROWS_S)

    def start(self) -> None:
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                turn, rows = self._pipe.recv()
                with self._changed:
                    if turn == self._turn:
                        self._rows.append(rows)
                        self._changed.notify()
        with self._changed:
            self._gone = True
            self._changed.notify()

    def begin(self) -> None:
        with self._changed:
            self._turn, self._num_sent, self._rows = self._turn + 1, 0, []

    def send(self, tiles: np.ndarray) -> None:
        self._num_sent += len(tiles)
        try:
            self._pipe.send((self._turn, np.ascontiguousarray(tiles)))
        except BlockingIOError as error:
            raise silent(ROWS_S) from error
        except OSError as error:
            raise EncoderGoneError(GONE) from error

    def collect(self) -> list[np.ndarray]:
        with self._changed:
            while sum(map(len, self._rows)) < self._num_sent:
                if self._gone:
                    raise EncoderGoneError(GONE)
                if not self._changed.wait(ROWS_S):
                    raise silent(ROWS_S)
            return self._rows


def use(pipe: Connection, option: Option) -> None:
    """Make the encoder at the other end of a pipe this process's encoder of an option.

    Raises:
        UserError: it could not be built there.
    """
    if not pipe.poll(START_S):
        raise silent(START_S)
    told = pipe.recv()
    if isinstance(told, UserError):
        raise told
    link = PipeLink(pipe)
    link.start()
    share(option, SharedEncoder(told, link))
