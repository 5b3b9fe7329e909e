"""Tiles to rows, in batches of constant shape: by this process's encoder, or by encoders that many workers share.

Shared encoders sit in processes of their own (one a GPU; data_prep/executor.py, data_prep/ray_executor.py) and fill
their batches from whatever worker sends: a batch runs across slides, and the GPU does not wait where a slide ends. A
batch that is not full is padded only when nobody has sent anything for a while.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np

from zoomldm.encoder.base import Encoder, padded
from zoomldm.errors import UserError

QUEUE_BYTES = 8 << 20
PATIENCE_S = 0.02
"""How long a shared encoder waits for more tiles before it pads a batch."""
_encoders: dict[str, Encoder] = {}


class Link(Protocol):
    """The way to an encoder, here or elsewhere. Rows come back in the order in which tiles were sent."""

    def begin(self) -> None:
        """Forget what was sent before."""

    def send(self, tiles: np.ndarray) -> None:
        """Send tiles, (n, H, W, 3) uint8; waits while the encoder is too far behind."""

    def collect(self) -> list[np.ndarray]:
        """Wait for the rows of everything that was sent since `begin`."""


class OwnLink:
    """The way to an encoder of this process: tiles are encoded as they are sent."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._rows: list[np.ndarray] = []

    def begin(self) -> None:
        self._rows = []

    def send(self, tiles: np.ndarray) -> None:
        rows = self.encoder(padded(tiles, self.encoder.batch_size))
        self._rows.append(np.asarray(rows, np.float32)[: len(tiles)])

    def collect(self) -> list[np.ndarray]:
        return self._rows


class SharedEncoder(Encoder):
    """An encoder of another process as a worker sees it: what it is, and the way to it."""

    def __init__(self, described: dict[str, Any], batch_size: int | None, link: Link) -> None:
        self.described, self.batch_size, self.link = described, batch_size, link
        self.name, self.dim = described["name"], described["dim"]
        self.weights_sha256 = described["weights_sha256"]

    def describe(self) -> dict[str, Any]:
        return dict(self.described)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        self.link.begin()
        self.link.send(tiles)
        return np.concatenate(self.link.collect())


def get_encoder(config: dict[str, Any]) -> Encoder:
    """Return this process's encoder of a configuration, built on first use; on a GPU where there is one."""
    name = _name_of(config)
    if name not in _encoders:
        if config["name"] == "stats":
            from zoomldm.encoder.stats import StatsEncoder

            _encoders[name] = StatsEncoder()
        else:
            import torch

            from zoomldm.encoder.build import build_encoder

            encoder = build_encoder(config)
            if torch.cuda.is_available():
                number = int(os.environ.get("ZOOMLDM_WORKER", "0")) % torch.cuda.device_count()
                encoder = encoder.to(f"cuda:{number}")
            else:
                torch.set_num_threads(1)
            _encoders[name] = encoder
    return _encoders[name]


def share(config: dict[str, Any], encoder: SharedEncoder) -> None:
    """Let `get_encoder` return a shared encoder in this process, until `stop_sharing`."""
    _encoders[_name_of(config)] = encoder


def stop_sharing(config: dict[str, Any]) -> None:
    """Let `get_encoder` build this process's own encoder again."""
    _encoders.pop(_name_of(config), None)


def _name_of(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)


def chunk_of(encoder: Encoder, tiles: np.ndarray) -> int:
    """Return how many tiles of this shape are encoded in one call."""
    return encoder.batch_size or max(1, QUEUE_BYTES // tiles[0].nbytes)


class TileQueue:
    """Collects a slide's tiles and has them encoded; ``finish`` returns every row in order."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.elapsed_s = 0.0
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._link: Link = encoder.link if isinstance(encoder, SharedEncoder) else OwnLink(encoder)
        self._link.begin()

    def add(self, tiles: np.ndarray) -> None:
        size = chunk_of(self.encoder, tiles)
        self._waiting.append(tiles)
        self._num_waiting += len(tiles)
        if self._num_waiting >= size:
            waiting = np.concatenate(self._waiting)
            whole = len(waiting) // size * size
            for start in range(0, whole, size):
                self._encode(waiting[start : start + size])
            self._waiting = [waiting[whole:].copy()]
            self._num_waiting = len(waiting) - whole

    def _encode(self, batch: np.ndarray) -> None:
        began = time.perf_counter()
        self._link.send(batch)
        self.elapsed_s += time.perf_counter() - began

    def finish(self) -> np.ndarray:
        if self._num_waiting:
            self._encode(np.concatenate(self._waiting))
        self._waiting, self._num_waiting = [], 0
        began = time.perf_counter()
        rows = self._link.collect()
        self.elapsed_s += time.perf_counter() - began
        return np.concatenate(rows) if rows else np.zeros((0, self.encoder.dim), np.float32)


class Batcher:
    """Tiles of many senders, cut into batches of constant shape in the order in which they came."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._waiting: deque[tuple[Hashable, np.ndarray]] = deque()
        self.num_waiting = 0

    def add(self, sender: Hashable, tiles: np.ndarray) -> None:
        self._waiting.append((sender, tiles))
        self.num_waiting += len(tiles)

    @property
    def size(self) -> int:
        return chunk_of(self.encoder, self._waiting[0][1])

    @property
    def is_full(self) -> bool:
        return bool(self._waiting) and self.num_waiting >= self.size

    def forget(self, is_gone: Callable[[Hashable], bool]) -> None:
        """Drop what senders that are gone have sent."""
        self._waiting = deque(item for item in self._waiting if not is_gone(item[0]))
        self.num_waiting = sum(len(tiles) for _, tiles in self._waiting)

    def take(self) -> tuple[np.ndarray, list[tuple[Hashable, int]]]:
        """Return the next batch, padded where it is not full, and how many of its tiles are whose."""
        room, parts, owners = self.size, [], []
        while room and self._waiting:
            sender, tiles = self._waiting.popleft()
            if len(tiles) > room:
                self._waiting.appendleft((sender, tiles[room:]))
                tiles = tiles[:room]
            parts.append(tiles)
            owners.append((sender, len(tiles)))
            room -= len(tiles)
        self.num_waiting -= sum(count for _, count in owners)
        return padded(np.concatenate(parts), self.encoder.batch_size), owners


def shares(rows: np.ndarray, owners: list[tuple[Hashable, int]]) -> list[tuple[Hashable, np.ndarray]]:
    """Cut a batch's rows into those of each sender; those of the padding are left out."""
    found, start = [], 0
    for sender, count in owners:
        found.append((sender, np.asarray(rows[start : start + count], np.float32)))
        start += count
    return found


class EncoderGoneError(UserError):
    """A shared encoder's process has ended."""
