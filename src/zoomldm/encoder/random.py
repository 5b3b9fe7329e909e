"""``random``: fixed random features, D = 24: what a condition is worth that nobody designed or trained.

Legend: n tiles, b blocks of a tile, d width.
"""

from typing import Any

import numpy as np
from einops import rearrange

from zoomldm.encoder.stats import StatsEncoder

BLOCK_PX = 8


class RandomEncoder(StatsEncoder):
    """Encode tiles by the mean size of random projections of blocks of 8 px; as many numbers as `stats` has."""

    name = "random"

    def __init__(self, statistics: dict[str, Any] | None = None) -> None:
        super().__init__(statistics)
        rng = np.random.default_rng(0)
        width = 3 * BLOCK_PX**2
        self._project = (rng.normal(size=(width, self.dim)) / width**0.5).astype(np.float32)
        self._shift = rng.normal(size=self.dim).astype(np.float32) / 4

    def describe(self) -> dict[str, Any]:
        said = super().describe()
        if said["statistics"]:
            said["statistics"]["features"] = [f"random_{number}" for number in range(self.dim)]
        return said

    def _describe(self, tiles: np.ndarray) -> np.ndarray:
        blocks = rearrange(tiles, "n (h y) (w x) c -> n (h w) (y x c)", y=BLOCK_PX, x=BLOCK_PX)
        projected = (blocks.astype(np.float32) / 127.5 - 1) @ self._project + self._shift
        return np.abs(projected).mean(1)  # no half-wave: some of its features would be dead on all tissue
