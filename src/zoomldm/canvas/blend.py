"""Put the regions of a level together: where two overlap, one fades into the other.

Legend: h w sides of an area (px).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from zoomldm.canvas.plan import Block, Level
from zoomldm.canvas.store import CanvasStore


def blended(store: CanvasStore, level: Level, block: Block, halo: int) -> np.ndarray:
    """Return a block's pixels, uint8 (h, w, 3), from its own region and those of its neighbours.

    A region counts fully inside, by half at the border of its block, and not at all at the end of its halo; the weights
    of all regions sum to one.
    """
    side, sums = level.patch_px, None
    for other in _around(level, block, store.block):
        area, weight = level.with_halo(other, halo), _weights(level, other, halo)
        top, left = max(area.top, block.top), max(area.left, block.left)
        bottom, right = min(area.bottom, block.bottom), min(area.right, block.right)
        if top >= bottom or left >= right:
            continue
        inner = _pixels(top - area.top, bottom - area.top, side), _pixels(left - area.left, right - area.left, side)
        part = store.region(level, other)[inner].astype(np.float32) * weight[inner][..., None]
        if sums is None:
            sums = np.zeros(((block.bottom - block.top) * side, (block.right - block.left) * side, 3), np.float32)
        sums[
            _pixels(top - block.top, bottom - block.top, side), _pixels(left - block.left, right - block.left, side)
        ] += part
    if sums is None:
        raise ValueError(f"no region covers block {block}")
    return np.clip(np.rint(sums), 0, 255).astype(np.uint8)


def _pixels(start: int, end: int, side: int) -> slice:
    return slice(start * side, end * side)


def _around(level: Level, block: Block, side: int) -> Iterator[Block]:
    """Yield a block and its neighbours."""
    for top in (block.top - side, block.top, block.top + side):
        for left in (block.left - side, block.left, block.left + side):
            if level.part.top <= top < level.part.bottom and level.part.left <= left < level.part.right:
                yield level.block(top, left, side)


def _weights(level: Level, block: Block, halo: int) -> np.ndarray:
    """Return the weight of each pixel of a block's region, float32 (h, w)."""
    area, side = level.with_halo(block, halo), level.patch_px
    rows = _ramps(area.bottom - area.top, block.top - area.top, area.bottom - block.bottom, halo, side)
    columns = _ramps(area.right - area.left, block.left - area.left, area.right - block.right, halo, side)
    return rows[:, None] * columns[None]


def _ramps(length: int, before: int, after: int, halo: int, side: int) -> np.ndarray:
    """Return weights along one direction, float32 (length * side,): ramps over two halos at each end that has one."""
    weight, ramp = np.ones(length * side, np.float32), 2 * halo * side
    rising = (np.arange(ramp, dtype=np.float32) + 0.5) / ramp if ramp else np.ones(0, np.float32)
    if before:
        weight[:ramp] *= rising[: len(weight)]
    if after:
        weight[-ramp:] *= rising[::-1][-len(weight) :]
    return weight
