"""A shared encoder in a process of its own on this machine, and the pipes by which workers reach it."""

import contextlib
import multiprocessing
import os
import threading
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from data_prep.execution.encoding.queue import (
    PATIENCE_S,
    Batcher,
    EncoderGoneError,
    SharedEncoder,
    get_encoder,
    share,
    shares,
)
from zoomldm.errors import UserError

GONE = "the encoder's process has ended; run the same command again"
AHEAD = 4
"""Batches that may wait in the encoder's process; more stay with the workers, which then wait."""


class EncoderProcess:
    """The process of one encoder; ``number`` chooses the GPU where there are several."""

    def __init__(self, config: dict[str, Any], number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._control, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, config, number), daemon=True)
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
        self._process.kill()
        self._process.join(10)
        self._control.close()


def _serve(control: Connection, config: dict[str, Any], number: int) -> None:
    os.environ["ZOOMLDM_WORKER"] = str(number)
    fault: UserError | None = None
    try:
        encoder = get_encoder(config)
    except UserError as error:  # told to every worker, the first of which ends the run
        fault = error
    batcher = None if fault else Batcher(encoder)
    senders: list[Connection] = []
    while True:
        busy = batcher is not None and batcher.num_waiting > 0
        patience = None if not busy else 0 if batcher.is_full else PATIENCE_S
        far_behind = busy and batcher.num_waiting >= AHEAD * batcher.size
        ready = wait([control] if far_behind else [control, *senders], patience)
        for pipe in ready:
            try:
                received = pipe.recv()
            except (EOFError, OSError):
                if pipe is control:
                    return
                senders.remove(pipe)
                if batcher:
                    batcher.forget(lambda sender, gone=pipe: sender[0] is gone)
                continue
            if pipe is control:
                with contextlib.suppress(OSError):
                    received.send(fault or (encoder.describe(), encoder.batch_size))
                senders.append(received)
            elif batcher:
                batcher.add((pipe, received[0]), received[1])
        if batcher and (batcher.is_full or (batcher.num_waiting and not ready)):
            tiles, owners = batcher.take()
            for (pipe, turn), rows in shares(encoder(tiles), owners):
                with contextlib.suppress(OSError):  # that worker has died
                    pipe.send((turn, rows))


class PipeLink:
    """A worker's end. A thread takes the rows in, so that neither side waits for the other with full pipes."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._turn, self._num_sent = pipe, 0, 0
        self._rows: list[np.ndarray] = []
        self._changed, self._gone = threading.Condition(), False

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
        except OSError as error:
            raise EncoderGoneError(GONE) from error

    def collect(self) -> list[np.ndarray]:
        with self._changed:
            while sum(map(len, self._rows)) < self._num_sent:
                if self._gone:
                    raise EncoderGoneError(GONE)
                self._changed.wait()
            return self._rows


def use(pipe: Connection, config: dict[str, Any]) -> None:
    """Make the encoder at the other end of a pipe this process's encoder of a configuration.

    Raises:
        UserError: it could not be built there.
    """
    told = pipe.recv()
    if isinstance(told, UserError):
        raise told
    link = PipeLink(pipe)
    link.start()
    share(config, SharedEncoder(*told, link))
