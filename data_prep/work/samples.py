"""What a slide's work holds of its samples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RungSamples:
    """The samples of one rung of a slide, n of them.

    Attributes:
        corner: (n, 2) int32, y and x of the region in tiles.
        corner_px0: (n, 2) int64, x and y of the region in level-0 pixels.
        tissue: (n,) float64.
        spans: (n, 4) int64, offset and size in the images' file of the patch and of its lossless copy; -1: none.
    """

    corner: np.ndarray
    corner_px0: np.ndarray
    tissue: np.ndarray
    spans: np.ndarray

    @classmethod
    def stored_in(cls, arrays: Mapping[str, np.ndarray], rung: int) -> "RungSamples":
        """Return the samples of a rung from arrays under their stored names."""
        return cls(**{field: arrays[name] for field, name in stored_names(rung).items()})

    def stored(self, rung: int) -> dict[str, np.ndarray]:
        """Return the arrays by the names under which a rung's are stored."""
        return {name: getattr(self, field) for field, name in stored_names(rung).items()}


def stored_names(rung: int) -> dict[str, str]:
    """Return what the fields of a rung's ``RungSamples`` are called in samples.npz."""
    return {
        "corner": f"{rung}.place",
        "corner_px0": f"{rung}.px0",
        "tissue": f"{rung}.tissue",
        "spans": f"{rung}.spans",
    }
