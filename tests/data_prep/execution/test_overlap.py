"""Tiles are received while others are encoded: shown by what has happened before what, not by a clock."""

import multiprocessing
import threading

import numpy as np
import pytest

from data_prep.execution.encoding.process import AHEAD, PipeLink, _Server
from data_prep.execution.encoding.queue import SharedEncoder, TileQueue
from zoomldm.encoder.base import Encoder

LIMIT_S = 30
TILES = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
"""A batch that no pipe holds unless somebody takes it out at the other end."""


class Slow(Encoder):
    """An encoder whose every batch ends only when it is told to."""

    name, dim, batch_size = "slow", 3, len(TILES)

    def __init__(self):
        self.num_begun, self.may_end = 0, threading.Semaphore(0)
        self.begun = threading.Condition()

    def __call__(self, tiles):
        with self.begun:
            self.num_begun += 1
            self.begun.notify_all()
        assert self.may_end.acquire(timeout=LIMIT_S)
        return tiles.mean((1, 2)).astype(np.float32)

    def wait_for(self, number):
        with self.begun:
            return self.begun.wait_for(lambda: self.num_begun >= number, LIMIT_S)


@pytest.fixture
def slow():
    """Return a slow encoder, and one that shares it through pipes."""
    encoder = Slow()
    control, child = multiprocessing.Pipe()
    served = threading.Thread(target=_Server(child, encoder).run, daemon=True)
    served.start()
    mine, worker = multiprocessing.Pipe()
    control.send(mine)
    told, link = worker.recv(), PipeLink(worker)
    link.start()
    yield encoder, SharedEncoder(told, link)
    for _ in range(100):
        encoder.may_end.release()
    control.close()
    served.join(LIMIT_S)
    assert not served.is_alive()


def sent(shared, number) -> tuple[threading.Thread, list]:
    """Send batches from a thread; return it and what they come to."""
    rows = []

    def work():
        queue = TileQueue(shared)
        for _ in range(number):
            queue.add(TILES)
            rows.append(None)
        rows[:] = [queue.finish()]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, rows


def test_a_worker_reads_on_while_its_first_batch_is_encoded(slow):
    """The reader sends all that may be ahead before the encoder ends its first batch; then both end."""
    encoder, shared = slow
    thread, rows = sent(shared, 1 + AHEAD)
    assert encoder.wait_for(1)
    for _ in range(LIMIT_S * 100):
        if len(rows) == 1 + AHEAD:
            break
        thread.join(0.01)
    assert len(rows) == 1 + AHEAD
    assert encoder.num_begun == 1
    for _ in range(1 + AHEAD):
        encoder.may_end.release()
    thread.join(LIMIT_S)
    np.testing.assert_array_equal(rows[0], np.tile(TILES.mean((1, 2)).astype(np.float16), (1 + AHEAD, 1)))


def test_the_next_batch_begins_when_one_ends_though_nobody_sends(slow):
    encoder, shared = slow
    thread, rows = sent(shared, 3)
    for number in (1, 2, 3):
        assert encoder.wait_for(number)
        assert encoder.num_begun == number
        encoder.may_end.release()
    thread.join(LIMIT_S)
    assert len(rows[0]) == 3 * len(TILES)


def test_what_is_ahead_is_bounded(slow):
    encoder, shared = slow
    thread, rows = sent(shared, 5 * AHEAD)
    assert encoder.wait_for(1)
    thread.join(0.5)
    assert len(rows) <= AHEAD + 4  # in work, ahead, in the batcher's hands, and in the pipe
    for _ in range(5 * AHEAD):
        encoder.may_end.release()
    thread.join(LIMIT_S)
    assert len(rows[0]) == 5 * AHEAD * len(TILES)
