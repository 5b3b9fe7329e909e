"""Samples that were found, read straight into the memory that travels: one block a batch.

Legend: b batch, S grid side, r embedding rows, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from zoomldm.data.batch import Batch, SparseGridGroup
from zoomldm.data.dihedral import NUM_VARIANTS, transformed
from zoomldm.data.members import OpenColumn
from zoomldm.data.order.slots import filled, placed
from zoomldm.data.schema import SampleMeta, decode_image

if TYPE_CHECKING:
    from zoomldm.data.reader import SampleSource


class Reading:
    """Samples that were found and are to be read into one block of memory.

    num_bytes: of the block; outline: the batch with the places of its tensors in it.
    """

    def __init__(
        self,
        source: SampleSource,
        rung: np.ndarray,
        sample_number: np.ndarray,
        turned: np.ndarray,
        places: list[tuple[str, int]],
    ) -> None:
        self.source, self.places, self.turned = source, places, turned
        self.numbers = {"sample_number": sample_number, "rung": rung}
        self.groups = self._found_grids(rung) if "grid" in source.columns else []
        shapes = {name: (values.shape, torch.int64) for name, values in self.numbers.items()}
        if "image" in source.columns:
            side = source.ladder.patch_px
            shapes["image"] = ((len(rung), 3, side, side), torch.uint8)
        if "latent" in source.columns:
            path, position = places[0]
            shapes["latent"] = ((len(rung), *source.column(path, "latent").shape(position, 0)), torch.float16)
        for n, group in enumerate(self.groups):
            shapes[f"index {n}"] = (group.at.shape, torch.int64)
            shapes[f"rows {n}"] = ((int(group.ends[-1]), source.manifest.encoder.dim), torch.float16)
            shapes[f"cells {n}"] = ((len(group.at), group.side, group.side), torch.int32)
        laid, self.num_bytes = placed(list(shapes.values()))
        self.laid = dict(zip(shapes, laid))
        metas = self._read_meta() if "meta" in source.columns else None
        grids = [
            SparseGridGroup(*(self.laid[f"{name} {n}"] for name in ("index", "rows", "cells")))
            for n in range(len(self.groups))
        ]
        self.outline = Batch(
            sample_number=self.laid["sample_number"],
            rung=self.laid["rung"],
            keys=[meta.key for meta in metas] if metas else [],
            image=self.laid.get("image"),
            latent=self.laid.get("latent"),
            grids=grids if "grid" in source.columns else None,
            meta=metas,
        )

    def batch(self) -> Batch:
        """Read everything into memory of its own."""
        block = torch.empty(self.num_bytes, dtype=torch.uint8)  # aligned as a slot is: MKL's last bits hang on it
        self.into(block.numpy())
        return filled(self.outline, block)

    def into(self, block: np.ndarray) -> None:
        """Read everything into `block`, uint8 (num_bytes,)."""
        tensor = torch.from_numpy(block)
        arrays = {name: place.view(tensor).numpy() for name, place in self.laid.items()}
        for name, values in self.numbers.items():
            arrays[name][...] = values
        if "image" in arrays:
            self._read_images(arrays["image"])
        if "latent" in arrays:
            self._read_latents(arrays["latent"])
        for n, group in enumerate(self.groups):
            arrays[f"index {n}"][...] = group.at
            self._read_grids(group, arrays[f"rows {n}"], arrays[f"cells {n}"])

    def _found_grids(self, rung: np.ndarray) -> list[_Grids]:
        width, groups = self.source.manifest.encoder.dim, []
        for k in np.unique(rung):
            at = np.flatnonzero(rung == k)
            chosen = [(self.source.column(path, "grid"), i) for path, i in (self.places[n] for n in at.tolist())]
            num_rows = np.array([column.num_rows(position, width) for column, position in chosen])
            groups.append(_Grids(at, self.source.ladder[int(k)].grid_side, chosen, num_rows, np.cumsum(num_rows)))
        return groups

    def _read_images(self, into: np.ndarray) -> None:
        for i, (path, position) in enumerate(self.places):
            column = self.source.column(path, "image")
            try:
                pixels = decode_image(column.member(position, 0))
                into[i] = transformed(pixels.transpose(2, 0, 1), int(self.turned[i]))
            except (OSError, ValueError, SyntaxError) as error:
                raise column.damaged(position, f"not a {into.shape[-1]} px image ({error})") from error

    def _read_latents(self, into: np.ndarray) -> None:
        for i, (path, position) in enumerate(self.places):
            variant = int(self.turned[i])
            if variant:
                self.source.column(path, "variants").part_into(position, variant - 1, NUM_VARIANTS - 1, into[i])
            else:
                self.source.column(path, "latent").array_into(position, 0, into[i])

    def _read_grids(self, group: _Grids, rows: np.ndarray, cells: np.ndarray) -> None:
        stored = np.empty(cells.shape, np.uint16)
        starts = group.ends - group.num_rows
        for i, (column, position) in enumerate(group.chosen):
            column.grid_into(position, stored[i], rows[starts[i] : group.ends[i]])
        beyond = stored.max(axis=(1, 2)) >= group.num_rows
        if beyond.any():
            column, position = group.chosen[int(np.argmax(beyond))]
            raise column.damaged(position, "a cell points beyond the rows")
        for i, variant in enumerate(self.turned[group.at].tolist()):
            if variant:
                stored[i] = transformed(stored[i].copy(), variant)
        np.add(stored, starts[:, None, None], out=cells, casting="unsafe")

    def _read_meta(self) -> list[SampleMeta]:
        metas = []
        for path, position in self.places:
            column = self.source.column(path, "meta")
            try:
                metas.append(SampleMeta.decode(column.member(position, 0)))
            except (ValueError, TypeError) as error:
                raise column.damaged(position, f"not a sample's description ({error})") from error
        return metas


@dataclass(frozen=True)
class _Grids:
    """The grids of one side: batch positions `at`, where each is stored, and its part of all their rows."""

    at: np.ndarray
    side: int
    chosen: list[tuple[OpenColumn, int]]
    num_rows: np.ndarray
    ends: np.ndarray
