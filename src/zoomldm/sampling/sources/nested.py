"""One place at a magnification and all higher ones: the middle of a grid is the grid of the middle of its region.

Legend: g samples, S s grid sides (cells), D embedding width.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from zoomldm.data.batch import Batch, GridGroup
from zoomldm.data.schema import SampleMeta, make_key, parse_key
from zoomldm.ladder import Rung
from zoomldm.sampling.sources.base import Source


class Nested(Source):
    """The conditions of another source at its ``coarsest`` magnification, cut to their middle at higher ones."""

    def __init__(self, whole: Source, coarsest: Rung) -> None:
        super().__init__(name=whole.name)
        self.whole, self.coarsest = whole, coarsest
        self.origin, self.is_chosen = whole.origin, whole.is_chosen

    @property
    def label(self) -> str:
        return self.whole.label

    def why_not(self, rung: Rung) -> str | None:
        return self.whole.why_not(self.coarsest)

    def count(self, rung: Rung) -> int | None:
        return self.whole.count(self.coarsest)

    def read(self, rung: Rung, start: int, stop: int, *, with_grids: bool) -> Batch | None:
        batch = self.whole.read(self.coarsest, start, stop, with_grids=with_grids)
        return batch if batch is None or rung == self.coarsest else middle_of(batch, self.coarsest, rung)

    def references(self, rung: Rung, num: int) -> np.ndarray | None:
        return self.whole.references(rung, num) if rung == self.coarsest else None


def middle_of(batch: Batch, coarse: Rung, fine: Rung) -> Batch:
    """Return the conditions of the middle of regions: grids (g, S, S, D) become (g, s, s, D)."""
    side, first = fine.grid_side, (coarse.grid_side - fine.grid_side) // 2
    middle = slice(first, first + side)
    grids = batch.grids and [
        GridGroup(group.index, group.dense().values[:, middle, middle].contiguous()) for group in batch.grids
    ]
    metas = batch.meta and [_middle(meta, coarse, fine, first) for meta in batch.meta]
    keys = [meta.key for meta in metas] if metas else batch.keys
    return replace(batch, rung=torch.full_like(batch.rung, fine.index), keys=keys, grids=grids, meta=metas)


def _middle(meta: SampleMeta, coarse: Rung, fine: Rung, first: int) -> SampleMeta:
    tile_px0 = meta.region_px0 / coarse.grid_side
    x_px0, y_px0 = (round(corner + first * tile_px0) for corner in (meta.x_px0, meta.y_px0))
    return replace(
        meta,
        key=make_key(parse_key(meta.key)[0], fine.grid_side, x_px0, y_px0),
        magnification=fine.magnification,
        x_px0=x_px0,
        y_px0=y_px0,
        region_px0=round(fine.grid_side * tile_px0),
        mpp_nominal=fine.mpp,
        mpp_true=meta.mpp_true * fine.mpp / coarse.mpp,
    )
