"""A slide's work as a shard takes from it."""

import os
from functools import cached_property
from typing import Any

import numpy as np

from data_prep.fold.quadtree import crop_cells
from data_prep.work.store import SlideStore
from zoomldm.data.schema import encode_grid
from zoomldm.encoder.stats import standardise

FEW_CELLS = 64


class SlideWork:
    """One rung of a slide's work: each of its files is opened once at most, and closed with it.

    Nothing is read but what is asked for: maps and rows are mapped into memory.
    """

    def __init__(self, store: SlideStore, rung: int) -> None:
        self.store = store
        self.cells, self.samples = store.mapped(rung)
        self._images = -1

    def __enter__(self) -> "SlideWork":
        return self

    def __exit__(self, *error: object) -> None:
        if self._images >= 0:
            os.close(self._images)

    @cached_property
    def rows(self) -> np.ndarray:
        return self.store.rows()

    def image(self, offset: int, size: int) -> bytes:
        """Return so many bytes of the slide's encoded patches.

        Raises:
            DataError: they are not there.
        """
        with self.store.said_if_damaged():
            if self._images < 0:
                self._images = os.open(self.store.images_path, os.O_RDONLY)
            content = os.pread(self._images, size, offset)
            if len(content) != size:
                raise ValueError(f"{self.store.images_path.name} is cut short")
            return content

    def grid(self, number: int, side: int, statistics: dict[str, Any] | None) -> dict[str, bytes]:
        """Return a sample's grid: rows number cells from 1 on in the order of their tiles, row 0 is glass."""
        y, x = self.samples.corner[number].tolist()
        crop = crop_cells(self.cells, y, x, side)
        if crop.size <= FEW_CELLS:  # sorting a few is faster than marking all rows of a slide
            used = np.unique(np.append(crop, 0))
            return encode_grid(np.searchsorted(used, crop), final_rows(self.rows[used], statistics))
        is_used = np.zeros(len(self.rows), bool)
        is_used[0] = True
        is_used[crop] = True
        row_of = np.cumsum(is_used, dtype=np.int32) - 1
        return encode_grid(row_of[crop], final_rows(self.rows[is_used], statistics))


def final_rows(rows: np.ndarray, statistics: dict[str, Any] | None) -> np.ndarray:
    """Return rows (n, D) as they go into grids, float16: standardised where they are made to be."""
    if statistics is not None:
        rows = standardise(np.asarray(rows), statistics["mean"], statistics["std"])
    return rows.astype(np.float16)
