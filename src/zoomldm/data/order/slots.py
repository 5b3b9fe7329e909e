"""Memory by which loader workers hand batches to the main process, used again and again.

A batch in fresh shared memory costs more in page faults than in reading: 1.3 GB/s here, against 17 GB/s into pages that
were touched before. So each worker has a few slots of one anonymous shared mapping, made before the fork. The worker
fills a slot and sends its number; the slot is free again when the last tensor over it is gone in the main process.
Unlike torch's own way this needs no room in /dev/shm and passes no file descriptors.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomldm.data.batch import Batch, GridGroup, SparseGridGroup

_ALIGNMENT = 64
_RINGS: weakref.WeakValueDictionary[int, SlotRing] = weakref.WeakValueDictionary()


class SlotRing:
    """Slots of `slot_bytes` each, `per_worker` for each of `num_workers`; memory is taken only as it is touched."""

    def __init__(self, *, num_workers: int, per_worker: int, slot_bytes: int) -> None:
        self.per_worker = per_worker
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        count = num_workers * per_worker
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._memory = np.frombuffer(mmap.mmap(-1, count * self.slot_bytes, flags=flags), np.uint8)
        self._taken = np.frombuffer(mmap.mmap(-1, max(count, 1), flags=flags), np.uint8)
        self.id = id(self)
        _RINGS[self.id] = self

    def take(self, worker: int, num_bytes: int) -> int | None:
        """Return a free slot of a worker, None where none is free or the batch is too large for one."""
        if num_bytes > self.slot_bytes:
            return None
        first = worker * self.per_worker
        free = np.flatnonzero(self._taken[first : first + self.per_worker] == 0)
        if not len(free):
            return None
        self._taken[first + free[0]] = 1
        return int(first + free[0])

    def block(self, slot: int, num_bytes: int) -> np.ndarray:
        """Return the first bytes of a slot, uint8."""
        start = slot * self.slot_bytes
        return self._memory[start : start + num_bytes]

    def received(self, slot: int, num_bytes: int) -> Tensor:
        """Return the bytes of a slot as a tensor that gives the slot back when it and every view of it are gone."""
        block = self.block(slot, num_bytes).view()
        weakref.finalize(block, _release, self._taken, slot).atexit = False
        return torch.from_numpy(block)


def _release(taken: np.ndarray, slot: int) -> None:
    taken[slot] = 0


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a block."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, block: Tensor) -> Tensor:
        """Return the tensor."""
        return block[self.offset : self.offset + self.num_bytes].view(self.dtype).view(self.shape)


def placed(shapes: Sequence[tuple[tuple[int, ...], torch.dtype]]) -> tuple[list[Place], int]:
    """Lay tensors out one after the other; return their places and the bytes of the whole."""
    places, end = [], 0
    for shape, dtype in shapes:
        places.append(Place(end, tuple(shape), dtype))
        end += -(-places[-1].num_bytes // _ALIGNMENT) * _ALIGNMENT
    return places, end


@dataclass(frozen=True)
class SentBatch:
    """A batch on its way from a worker: the slot, and the batch with places for tensors."""

    ring: int
    slot: int
    num_bytes: int
    outline: Batch

    def received(self) -> Batch:
        """Return the batch, over the slot's memory."""
        return filled(self.outline, _RINGS[self.ring].received(self.slot, self.num_bytes))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, copied in one piece; the slot is free at once."""
        return filled(self.outline, _RINGS[self.ring].received(self.slot, self.num_bytes).pin_memory())


def filled(outline: Batch, block: Tensor) -> Batch:
    """Put tensors over `block` in the places of an outline."""
    return Batch(**{f.name: _filled(getattr(outline, f.name), block) for f in fields(outline)})


def _filled(value: Any, block: Tensor) -> Any:
    # No closure over `block`: one that calls itself lives until the garbage collector comes, and the slot with it.
    if isinstance(value, Place):
        return value.view(block)
    if isinstance(value, GridGroup | SparseGridGroup):
        return replace(value, **{f.name: _filled(getattr(value, f.name), block) for f in fields(value)})
    if isinstance(value, list):
        return [_filled(item, block) for item in value]
    return value
