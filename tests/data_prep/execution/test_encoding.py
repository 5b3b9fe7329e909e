"""Shared encoders: batches of constant shape across senders, every row to its sender, and the bytes of a lone run."""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from data_prep.execution.encoding import process as process_of_encoder
from data_prep.execution.encoding.batcher import Batcher, shares
from data_prep.execution.encoding.process import EncoderProcess, PipeLink, use
from data_prep.execution.encoding.queue import EncoderGoneError, SharedEncoder, TileQueue
from data_prep.execution.local import LocalExecutor
from tests.helpers.memory import peak_bytes
from tests.helpers.prepare import hashes, prepare_folder
from zoomldm.config import option_of
from zoomldm.encoder.base import Encoder
from zoomldm.encoder.stats import StatsEncoder
from zoomldm.errors import UserError


class Means(Encoder):
    """Mean colours; remembers the batches it was called with."""

    name, dim, batch_size = "means", 3, 8

    def __init__(self):
        self.sizes = []

    def __call__(self, tiles):
        self.sizes.append(len(tiles))
        return tiles.mean((1, 2)).astype(np.float32)


def tiles_of(number, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (number, 4, 4, 3), dtype=np.uint8)


def test_batches_run_across_senders_and_rows_come_back_to_them():
    encoder = Means()
    batcher = Batcher(encoder)
    sent = {"a": [tiles_of(5, 1), tiles_of(6, 2)], "b": [tiles_of(7, 3)]}
    batcher.add("a", sent["a"][0])
    assert not batcher.is_full
    batcher.add("b", sent["b"][0])
    batcher.add("a", sent["a"][1])
    found = {"a": [], "b": []}
    while batcher.num_waiting:
        tiles, owners = batcher.take()
        for sender, rows in shares(encoder(tiles), owners):
            found[sender].append(rows)
    assert encoder.sizes == [8, 8, 8]
    for sender, tiles in sent.items():
        np.testing.assert_array_equal(np.concatenate(found[sender]), np.concatenate(tiles).mean((1, 2)).astype("f4"))


def test_a_sender_that_is_gone_is_forgotten():
    batcher = Batcher(Means())
    batcher.add("a", tiles_of(3))
    batcher.add("b", tiles_of(4))
    batcher.forget(lambda sender: sender == "a")
    assert batcher.num_waiting == 4
    assert batcher.take()[1] == [("b", 4)]


class Wide(Means):
    """Long vectors; the first tile's is beyond float16 where it is white."""

    dim = 4096

    def __call__(self, tiles):
        return np.repeat(tiles[:, :1, :1, 0].reshape(-1, 1).astype(np.float32) * 300, self.dim, axis=1)


def test_rows_take_four_bytes_a_number_while_they_are_put_together():
    tiles, found = np.full((512, 4, 4, 3), 7, np.uint8), []

    def work():
        queue = TileQueue(Wide())
        for start in range(0, len(tiles), 8):
            queue.add(tiles[start : start + 8])
        found.append(queue.finish())

    most = peak_bytes(work)
    assert found[0].shape == (512, 4096)
    assert found[0].dtype == np.float16
    assert (found[0] == 2100).all()
    assert most < 4.4 * found[0].size


def test_what_float16_cannot_hold_is_not_taken_for_a_number():
    queue = TileQueue(Wide())
    queue.add(np.full((1, 4, 4, 3), 255, np.uint8))
    assert np.isinf(queue.finish()).all()


@pytest.fixture
def process():
    process = EncoderProcess(option_of("encoder", "stats"), 0)
    yield process
    process.stop()


def shared(process) -> SharedEncoder:
    pipe = process.connect()
    told = pipe.recv()
    link = PipeLink(pipe)
    link.start()
    return SharedEncoder(told, link)


def test_two_slides_at_once_through_one_process(process):
    encoders = [shared(process), shared(process)]
    rows = [None, None]

    def encode(which):
        queue = TileQueue(encoders[which])
        for part in range(6):
            queue.add(np.random.default_rng([which, part]).integers(0, 255, (40, 32, 32, 3), dtype=np.uint8))
        rows[which] = queue.finish()

    threads = [threading.Thread(target=encode, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoders[0].describe()["name"] == "stats"
    for which in range(2):
        tiles = [np.random.default_rng([which, p]).integers(0, 255, (40, 32, 32, 3), dtype=np.uint8) for p in range(6)]
        np.testing.assert_array_equal(rows[which], StatsEncoder()(np.concatenate(tiles)))


def test_rows_of_a_slide_that_failed_do_not_reach_the_next(process):
    encoder = shared(process)
    TileQueue(encoder).add(np.zeros((4096, 32, 32, 3), np.uint8))  # and nobody fetches them
    queue, tiles = TileQueue(encoder), np.random.default_rng(1).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8)
    queue.add(tiles)
    np.testing.assert_array_equal(queue.finish(), StatsEncoder()(tiles))


def test_an_encoder_that_dies_is_said(process):
    encoder = shared(process)
    queue = TileQueue(encoder)
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.join()
    time.sleep(0.05)
    with pytest.raises(EncoderGoneError, match="run the same command again"):
        queue.add(np.zeros((9000, 32, 32, 3), np.uint8))
        queue.finish()


def test_an_encoder_that_is_silent_is_said(monkeypatch):
    monkeypatch.setattr(process_of_encoder, "ROWS_S", 0.1)
    monkeypatch.setattr(process_of_encoder, "START_S", 0.1)
    mine, theirs = multiprocessing.Pipe()
    with pytest.raises(EncoderGoneError, match=r"has not answered for 0\.1 s"):
        use(mine, option_of("encoder", "stats"))
    link = PipeLink(mine)
    link.start()
    link.begin()
    link.send(tiles_of(3))
    with pytest.raises(EncoderGoneError, match=r"has not answered for 0\.1 s.*run the same command again"):
        link.collect()
    with pytest.raises(EncoderGoneError, match=r"has not answered for 0\.1 s"):
        link.send(np.zeros((1 << 14, 32, 32, 3), np.uint8))  # more than the pipe holds
    theirs.close()


def test_with_shared_encoders_the_bytes_are_the_same(slides, tmp_path):
    prepare_folder(slides, tmp_path / "alone")
    prepare_folder(slides, tmp_path / "shared", executor=LocalExecutor(2, encoders=1))
    assert hashes(tmp_path / "shared") == hashes(tmp_path / "alone")


def test_missing_weights_end_the_run_with_their_message(tmp_path):
    executor = LocalExecutor(1, encoders=1)
    option = option_of("encoder", "hipt", weights=str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        list(executor.map(str, ["a"], encoder=option))
