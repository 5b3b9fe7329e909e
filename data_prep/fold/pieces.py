"""Patches put together from the pieces that several blocks have of them.

Legend: p patch side, k rung; a region is (k, its row in the rung's regions), a block (y, x) in blocks.
"""

from collections.abc import Mapping

import numpy as np

from data_prep.fold.regions import RungRegions

Region = tuple[int, int]
Block = tuple[int, int]


def blocks_of(regions: list[RungRegions], tiles: int, num_blocks: tuple[int, int]) -> dict[Region, list[Block]]:
    """Return for every region the blocks of ``tiles`` x ``tiles`` tiles that it touches, of those that there are."""
    touched: dict[Region, list[Block]] = {}
    for k, chosen in enumerate(regions):
        side = chosen.rung.grid_side
        for row, corner in enumerate(zip(chosen.y.tolist(), chosen.x.tolist())):
            ys, xs = (
                range(first // tiles, min(num, -(-(first + side) // tiles))) for first, num in zip(corner, num_blocks)
            )
            touched[k, row] = [(y, x) for y in ys for x in xs]
    return touched


class Pieces:
    """Regions that have got some of their pixels."""

    def __init__(
        self, blocks: Mapping[Region, list[Block]], regions: list[RungRegions], patch_px: int, glass: np.ndarray
    ) -> None:
        self.regions, self.patch_px, self.glass = regions, patch_px, glass
        self._missing = {region: len(touched) for region, touched in blocks.items()}
        self.unfinished: dict[Region, np.ndarray] = {}

    def add(self, region: Region, block: Block, image: np.ndarray) -> np.ndarray | None:
        """Copy what a block has of a region into its patch; return the patch, (p, p, 3), when no piece is missing.

        Args:
            image: the block at the region's rung, (side, side, 3) uint8.
        """
        p, (k, row) = self.patch_px, region
        chosen = self.regions[k]
        y_px, x_px = (int(v[row]) * p >> k for v in (chosen.y, chosen.x))  # of the region, at rung k
        top_px, left_px = (v * len(image) for v in block)
        y0, x0 = max(y_px, top_px), max(x_px, left_px)
        y1, x1 = min(y_px + p, top_px + len(image)), min(x_px + p, left_px + len(image))
        patch = image[y0 - top_px : y1 - top_px, x0 - left_px : x1 - left_px]
        if patch.shape[:2] != (p, p):
            patch = self._with_piece(region, patch, y0 - y_px, x0 - x_px)
        self._missing[region] -= 1
        if self._missing[region]:
            return None
        self.unfinished.pop(region, None)
        return patch

    def _with_piece(self, region: Region, piece: np.ndarray, top: int, left: int) -> np.ndarray:
        patch = self.unfinished.get(region)
        if patch is None:
            patch = self.unfinished[region] = np.empty((self.patch_px, self.patch_px, 3), np.uint8)
            patch[:] = self.glass
        patch[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        return patch
