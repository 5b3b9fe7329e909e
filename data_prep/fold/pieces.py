"""Patches put together from the blocks' images, which are kept only until the last region of each is whole.

What is held does not grow with how far regions overlap: a pixel is kept once, not once a region.

Legend: p patch side, k rung; a region is known by its row in the rung's regions, a block by (y, x) in blocks.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.fold.regions import RungRegions

Block = tuple[int, int]


class RungPieces:
    """The regions of one rung, and the images of the blocks that some of them wait with.

    Args:
        tiles: a block's side in tiles.
        num_blocks: along y and x.
    """

    def __init__(
        self, chosen: RungRegions, *, tiles: int, num_blocks: tuple[int, int], patch_px: int, glass: np.ndarray
    ) -> None:
        self.chosen, self.tiles, self.patch_px, self.glass = chosen, tiles, patch_px, glass
        self.waiting: dict[Block, np.ndarray] = {}
        self._num_waiting: dict[Block, int] = {}
        self._spans = [self._blocks_along(corner, num) for corner, num in zip((chosen.y, chosen.x), num_blocks)]
        (top, bottom), (left, right) = self._spans
        self._num_missing = ((bottom - top) * (right - left)).tolist()
        order = np.lexsort((chosen.x, chosen.y))
        lines, starts = np.unique(chosen.y[order], return_index=True)
        self._rows, self._xs, self._ys = order.tolist(), chosen.x[order].tolist(), lines.tolist()
        self._starts = [*starts.tolist(), len(order)]

    def _blocks_along(self, corner: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first block that each region touches along an axis, and the one behind the last."""
        end = -(-(corner + self.chosen.rung.grid_side) // self.tiles)
        return corner // self.tiles, np.minimum(end, num)

    def rows_at(self, block: Block) -> list[int]:
        """Return the regions that touch a block, line by line."""
        side, tiles, found = self.chosen.rung.grid_side, self.tiles, []
        (y0, y1), (x0, x1) = ((v * tiles - side + 1, (v + 1) * tiles) for v in block)  # where their corners lie
        for line in range(bisect_left(self._ys, y0), bisect_left(self._ys, y1)):
            first, end = self._starts[line], self._starts[line + 1]
            found += self._rows[bisect_left(self._xs, x0, first, end) : bisect_left(self._xs, x1, first, end)]
        return found

    def add(self, block: Block, image: np.ndarray, rows: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Take the image of a block and yield row and patch, (p, p, 3), of every region that is whole with it.

        Args:
            image: the block at the rung, (side, side, 3) uint8.
            rows: those that touch it.
        """
        whole = []
        for row in rows:
            self._num_missing[row] -= 1
            if not self._num_missing[row]:
                whole.append(row)
        self.waiting[block], self._num_waiting[block] = image, len(rows)
        for row in whole:
            yield row, self._patch(row)

    def _patch(self, row: int) -> np.ndarray:
        """Return the patch of a region, and let go of the blocks that no other region waits with."""
        p, k = self.patch_px, self.chosen.rung.index
        y_px, x_px = (int(v[row]) * p >> k for v in (self.chosen.y, self.chosen.x))  # of the region, at the rung
        patch = None
        for block in self._blocks_of(row):
            image = self.waiting[block]
            top_px, left_px = (v * len(image) for v in block)
            y0, x0, y1, x1 = max(y_px, top_px), max(x_px, left_px), y_px + p, x_px + p
            piece = image[y0 - top_px : y1 - top_px, x0 - left_px : x1 - left_px]
            self._num_waiting[block] -= 1
            if not self._num_waiting[block]:
                del self.waiting[block], self._num_waiting[block]
            if piece.shape[:2] == (p, p):
                return piece
            if patch is None:
                patch = np.empty((p, p, 3), np.uint8)
                patch[:] = self.glass
            patch[y0 - y_px : y0 - y_px + len(piece), x0 - x_px : x0 - x_px + piece.shape[1]] = piece
        return patch

    def _blocks_of(self, row: int) -> list[Block]:
        (top, bottom), (left, right) = self._spans
        return [(y, x) for y in range(top[row], bottom[row]) for x in range(left[row], right[row])]
