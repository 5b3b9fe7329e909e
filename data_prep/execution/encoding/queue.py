"""A slide's tiles to rows, in calls of constant shape, by an encoder of this process or one that many workers share."""

import time
from typing import Any, Protocol

import numpy as np

from zoomldm.encoder.base import Encoder, padded
from zoomldm.errors import UserError

QUEUE_BYTES = 8 << 20
START_S, ROWS_S = 900.0, 1800.0
"""Limits of waiting for a shared encoder: until it has its weights, and for the next rows."""


class EncoderGoneError(UserError):
    """A shared encoder's process has ended, or answers no longer."""


def silent(limit_s: float) -> EncoderGoneError:
    """Return the error about an encoder that has not answered for so long."""
    return EncoderGoneError(
        f"the shared encoder has not answered for {limit_s:g} s: it hangs, or its node has left; run the same command "
        "again, it goes on from here"
    )


class Link(Protocol):
    """The way to an encoder, here or elsewhere. Rows come back in the order in which tiles were sent."""

    def begin(self) -> None:
        """Forget what was sent before."""

    def send(self, tiles: np.ndarray) -> None:
        """Send tiles, (n, H, W, 3) uint8; waits while the encoder is too far behind."""

    def collect(self) -> list[np.ndarray]:
        """Wait for the rows of everything that was sent since `begin`."""


def rows_of(encoder: Encoder, tiles: np.ndarray) -> np.ndarray:
    """Encode a batch to rows as a slide's work keeps them; what float16 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(encoder(tiles), np.float32).astype(encoder.row_dtype, copy=False)


class OwnLink:
    """The way to an encoder of this process: tiles are encoded as they are sent."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._rows: list[np.ndarray] = []

    def begin(self) -> None:
        self._rows = []

    def send(self, tiles: np.ndarray) -> None:
        rows = rows_of(self.encoder, padded(tiles, self.encoder.batch_size))
        self._rows.append(rows[: len(tiles)])

    def collect(self) -> list[np.ndarray]:
        return self._rows


Told = tuple[dict[str, Any], int | None, bool]
"""What a shared encoder's process says of it: ``describe()``, batch_size, is_standardised."""


def tell(encoder: Encoder) -> Told:
    return encoder.describe(), encoder.batch_size, encoder.is_standardised


class SharedEncoder(Encoder):
    """An encoder of another process as a worker sees it: what it is, and the way to it."""

    def __init__(self, told: Told, link: Link) -> None:
        self.described, self.batch_size, self.is_standardised = told
        self.link = link
        self.name, self.dim = self.described["name"], self.described["dim"]
        self.weights_sha256 = self.described["weights_sha256"]

    def describe(self) -> dict[str, Any]:
        return dict(self.described)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        self.link.begin()
        self.link.send(tiles)
        return np.concatenate(self.link.collect()).astype(np.float32)


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
        parts = self._link.collect()
        self.elapsed_s += time.perf_counter() - began
        rows = np.empty((sum(map(len, parts)), self.encoder.dim), self.encoder.row_dtype)
        end = len(rows)
        while parts:  # from the last on, so that each is let go once it is copied
            part = parts.pop()
            rows[end - len(part) : end] = part
            end -= len(part)
        return rows
