"""Which regions of a slide become samples: known from the tissue mask before a pixel of the base is read.

A region of rung k is a square of 2^k x 2^k tiles; its tissue is the mean of its tiles'. Regions lie on a grid whose
stride is a whole number of tiles; below the region's side they overlap.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from data_prep.fold.area import Area
from zoomldm.data.schema import SPLITS, TRAIN
from zoomldm.ladder import Ladder, Rung


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """Which regions are kept, by magnification label.

    Attributes:
        min_tissue: least tissue fraction of a region.
        stride: step between regions as a part of their side; 1 is side by side, 0.25 overlaps by three quarters.
        max_per_slide: at most so many a slide, chosen at random by the seed; None for all.
    """

    min_tissue: dict[str, float]
    stride: dict[str, float]
    max_per_slide: dict[str, int | None]


@dataclass(frozen=True, kw_only=True)
class RungRegions:
    """Regions of one rung in the order of their rows.

    Attributes:
        stride: step between them, in tiles.
        y, x: corners, in tiles.
        tissue: tissue fraction.
    """

    rung: Rung
    stride: int
    y: np.ndarray
    x: np.ndarray
    tissue: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


def window_mean(fraction: np.ndarray, y: np.ndarray, x: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of ``fraction`` over side x side windows, what lies beyond the edge counting as zero; float64."""
    table = np.zeros((fraction.shape[0] + 1, fraction.shape[1] + 1))
    table[1:, 1:] = fraction.astype(np.float64).cumsum(0).cumsum(1)
    bottom, right = np.minimum(y + side, fraction.shape[0]), np.minimum(x + side, fraction.shape[1])
    total = table[bottom, right] - table[y, right] - table[bottom, x] + table[y, x]
    return np.maximum(total, 0) / (side * side)


def stride_tiles(rung: Rung, stride: float, patch_px: int) -> int:
    """Return the stride in whole tiles: at least one, and such that a region's pixels lie on its rung's pixel grid."""
    tiles = max(1, round(rung.grid_side * stride))
    grain = rung.grid_side // math.gcd(patch_px, rung.grid_side)
    return max(grain, tiles // grain * grain)


def corners(num_tiles: int, side: int, stride: int) -> np.ndarray:
    """Return the corners along one axis: from the edge on until the last region reaches the other edge."""
    return np.arange(0, max(1, -(-max(0, num_tiles - side) // stride) + 1)) * stride


def find_regions(
    fraction: np.ndarray, ladder: Ladder, settings: RegionSettings, *, slide: str, seed: int, area: Area | None = None
) -> list[RungRegions]:
    """Choose the regions of each rung.

    Args:
        fraction: (tiles_y, tiles_x) tissue.
        area: the held-out area where one slide serves both splits: a region across its cut is left out, and the most
            a slide are counted within each area.
    """
    chosen = []
    for rung in ladder.rungs:
        side = rung.grid_side
        stride = stride_tiles(rung, settings.stride[rung.label], ladder.patch_px)
        ys, xs = (corners(num_tiles, side, stride) for num_tiles in fraction.shape)
        y, x = (axis.ravel() for axis in np.meshgrid(ys, xs, indexing="ij"))
        tissue = window_mean(fraction, y, x, side)
        keep = tissue >= max(settings.min_tissue[rung.label], 1e-9)
        y, x, tissue = y[keep], x[keep], tissue[keep]
        most = settings.max_per_slide[rung.label]
        splits = np.array([area.split_of(a, b, side) or "" for a, b in zip(y, x)] if area else [TRAIN] * len(y), str)
        rank = _ranks(len(keep), f"{seed}:{slide}:{rung.label}")[keep]
        rows = np.concatenate([_choose(np.flatnonzero(splits == name), rank, most) for name in SPLITS])
        rows.sort()
        chosen.append(RungRegions(rung=rung, stride=stride, y=y[rows], x=x[rows], tissue=tissue[rows]))
    return chosen


def _ranks(count: int, salt: str) -> np.ndarray:
    """Return a random number for every corner of a grid of regions, with tissue or without; seeded by ``salt``."""
    return np.random.default_rng(list(hashlib.sha256(salt.encode()).digest())).random(count)


def _choose(rows: np.ndarray, rank: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most ``most`` rows: those of the smallest rank, so that a smaller choice is part of a larger one."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.argsort(rank[rows], kind="stable")[:most]]
