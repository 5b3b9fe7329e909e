"""Batches of constant shape out of the tiles of many senders.

Shared encoders fill their batches from whatever worker sends: a batch runs across slides, and the GPU does not wait
where a slide ends. A batch that is not full is padded only when nobody has sent anything for a while.
"""

from collections import deque
from collections.abc import Callable, Hashable

import numpy as np

from data_prep.execution.encoding.queue import chunk_of
from zoomldm.encoder.base import Encoder, padded

PATIENCE_S = 0.02
"""How long a shared encoder waits for more tiles before it pads a batch."""


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
        found.append((sender, rows[start : start + count]))
        start += count
    return found
