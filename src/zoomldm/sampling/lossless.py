"""Real patches as they were before JPEG: the data set's column ``reference``, which holds a part of the samples.

Legend: b batch, p patch side (px).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.data.schema import decode_image, is_reference
from zoomldm.errors import DataError
from zoomldm.ladder import Rung

KEYS_AT_ONCE = 100_000


def num_lossless(manifest: Manifest, split: str, magnification: float) -> int:
    """Return how many samples are kept without loss beside a lossy image; exclude.txt is not asked."""
    shards = manifest.shards_of(split, magnification)
    return sum(shard.columns.get("reference", {}).get("num_samples", 0) for shard in shards)


def lossless_indices(source: SampleSource, rung: Rung) -> np.ndarray:
    """Return which samples of a rung are kept without loss, after exclude.txt, int64 (n,)."""
    fraction = source.manifest.columns.get("reference", {}).get("fraction", {}).get(rung.label, 0.0)
    found = []
    for start in range(0, int(source.counts[rung.index]), KEYS_AT_ONCE) if fraction else ():
        index = np.arange(start, min(start + KEYS_AT_ONCE, int(source.counts[rung.index])))
        keys = source.keys(np.full(len(index), rung.index), index)
        found.append(index[[is_reference(key, fraction) for key in keys]])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


class LosslessReader:
    """Read samples with the pixels of the column ``reference`` as their images.

    Args:
        source: of the other columns that are wanted, without ``image``.
    """

    def __init__(self, source: SampleSource) -> None:
        self.source = source
        self._positions = lru_cache(maxsize=1024)(self._positions_in)

    def read(self, rung: Rung, index: np.ndarray) -> Batch:
        """Read samples by their index within a rung.

        Raises:
            DataError: a sample has no lossless image, or one of another size than the ladder's patches.
        """
        reading = self.source.outlined(np.full(len(index), rung.index), index)
        images = [self._image(path, position) for path, position in reading.places]
        pixels = torch.from_numpy(np.ascontiguousarray(rearrange(np.stack(images), "b h w c -> b c h w")))
        return replace(reading.batch(), image=pixels)

    def _image(self, path: str, position: int) -> np.ndarray:
        key = self.source.column(path, self.source.columns[0]).key(position)
        column, side = self.source.column(path, "reference"), self.source.ladder.patch_px
        place = self._positions(path).get(key)
        if place is None:
            raise DataError(f"shard {path}: no lossless image of {key}; run data_prep/verify.py")
        try:
            pixels = decode_image(column.member(place, 0))
        except (OSError, ValueError, SyntaxError) as error:
            raise column.damaged(place, f"no image ({error})") from error
        if pixels.shape != (side, side, 3):
            height, width = pixels.shape[:2]
            raise column.damaged(place, f"a reference of {width}×{height} px, patches are {side}×{side} px")
        return pixels

    def _positions_in(self, path: str) -> dict[str, int]:
        column = self.source.column(path, "reference")
        return {column.key(i): i for i in range(len(column))}


def without_image(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns to read where the image comes from elsewhere; one at least."""
    return tuple(column for column in columns if column != "image") or ("meta",)
