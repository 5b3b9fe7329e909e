"""What travels from the loader to a trainable: one micro-batch of samples.

Legend: b samples of the batch, g samples of one grid size, S grid side (cells), D embedding width, r embedding rows,
p patch side (px), c h w latent channels and size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class GridGroup:
    """The grids of one side length: `values[i]` conditions sample `index[i]` of the batch.

    index: int64 (g,), values: float16 (g, S, S, D).
    """

    index: Tensor
    values: Tensor

    @property
    def side(self) -> int:
        """Cells along an edge of each grid."""
        return self.values.shape[1]

    def dense(self) -> GridGroup:
        """Return the group itself, so that sparse and dense groups are read alike."""
        return self

    def select(self, kept: Tensor, position: Tensor) -> GridGroup:
        """Keep the grids where `kept` (g,) holds, moved to the batch positions `position` (number kept,)."""
        return GridGroup(position, self.values[kept])


@dataclass(frozen=True)
class SparseGridGroup:
    """The same grids as they are stored, two to four times smaller: `values = rows[cells]`.

    index: int64 (g,), rows: float16 (r, D) of all g grids one after the other, cells: int32 (g, S, S) into rows.
    """

    index: Tensor
    rows: Tensor
    cells: Tensor

    @property
    def side(self) -> int:
        """Cells along an edge of each grid."""
        return self.cells.shape[1]

    def dense(self) -> GridGroup:
        """Gather the rows into grids, on the device where they lie."""
        values = torch.nn.functional.embedding(self.cells, self.rows)
        return GridGroup(self.index, values)

    def select(self, kept: Tensor, position: Tensor) -> SparseGridGroup:
        """Keep the grids where `kept` (g,) holds, moved to the batch positions `position` (number kept,)."""
        return SparseGridGroup(position, self.rows, self.cells[kept])


@dataclass(frozen=True)
class Batch:
    """One micro-batch; a column that was not asked for is None.

    sample_number: int64 (b,), position in the global sequence, the key of every random draw for the sample;
    rung: int64 (b,), rung of the magnification ladder; keys: the samples' names in the shards;
    image: uint8 (b, 3, p, p); latent: float16 (b, c, h, w), before quantisation and unscaled;
    grids: groups by grid side, each sample in exactly one; meta: the samples' descriptions, when asked for.
    """

    sample_number: Tensor
    rung: Tensor
    keys: list[str] = field(default_factory=list)
    image: Tensor | None = None
    latent: Tensor | None = None
    grids: list[GridGroup] | None = None
    meta: list[Any] | None = None

    def __len__(self) -> int:
        return self.rung.shape[0]

    @property
    def device(self) -> torch.device:
        """The device on which the batch lies."""
        return self.rung.device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move every tensor to `device`; sparse grids travel as they are and become dense there."""
        moved = self._each_tensor(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved if moved.grids is None else replace(moved, grids=[group.dense() for group in moved.grids])

    def pin_memory(self) -> Batch:
        """Copy every tensor to page-locked memory (called by torch's DataLoader)."""
        return self._each_tensor(Tensor.pin_memory)

    def select(self, index: Tensor) -> Batch:
        """Return the samples at `index`, int64 (m,), in that order and without repetition."""
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        place = torch.full((len(self),), -1, dtype=torch.int64, device=self.device)
        place[index] = torch.arange(len(index), device=self.device)
        grids = None
        if self.grids is not None:
            grids = []
            for group in self.grids:
                kept = place[group.index] >= 0
                if bool(kept.any()):
                    grids.append(group.select(kept, place[group.index[kept]]))
        chosen = index.tolist()
        return Batch(
            sample_number=self.sample_number[index],
            rung=self.rung[index],
            keys=[self.keys[i] for i in chosen] if self.keys else [],
            image=None if self.image is None else self.image[index],
            latent=None if self.latent is None else self.latent[index],
            grids=grids,
            meta=None if self.meta is None else [self.meta[i] for i in chosen],
        )

    def _each_tensor(self, change: Any) -> Batch:
        def changed(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, GridGroup | SparseGridGroup):
                return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})
            if isinstance(value, list):
                return [changed(item) for item in value]
            return value

        return Batch(**{f.name: changed(getattr(self, f.name)) for f in fields(self)})


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Join batches one after the other; groups of one side length are joined too (dense)."""
    offsets = [0]
    for batch in batches:
        offsets.append(offsets[-1] + len(batch))

    def joined(name: str) -> Tensor | None:
        parts = [getattr(batch, name) for batch in batches]
        return None if any(part is None for part in parts) else torch.cat(parts)

    grids = None
    if all(batch.grids is not None for batch in batches):
        by_side: dict[int, list[GridGroup]] = {}
        for batch, offset in zip(batches, offsets, strict=False):
            for group in batch.grids:
                by_side.setdefault(group.side, []).append(GridGroup(group.index + offset, group.dense().values))
        grids = [
            GridGroup(torch.cat([g.index for g in groups]), torch.cat([g.values for g in groups]))
            for _, groups in sorted(by_side.items())
        ]
    has_meta = all(batch.meta is not None for batch in batches)
    return Batch(
        sample_number=joined("sample_number"),
        rung=joined("rung"),
        keys=[key for batch in batches for key in batch.keys],
        image=joined("image"),
        latent=joined("latent"),
        grids=grids,
        meta=[meta for batch in batches for meta in batch.meta] if has_meta else None,
    )
