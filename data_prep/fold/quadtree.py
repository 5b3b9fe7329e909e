"""Fold a slide's tiles upwards: one read of each block of base pixels makes the patches of every magnification.

A block is 2^b x 2^b tiles, visited in Morton order. Its exact sums are halved in resolution rung by rung (four
children make their parent), so a pixel of rung k is the rounded mean of its (factor·2^k)^2 read pixels, rounded once.
Block sides are multiples of the coarsest rung's pixel, so every pixel of every rung lies in one block; a region larger
than a block, or lying across blocks, is a pending patch that receives its pieces and is emitted when the last has come.

Legend: p patch side, k rung, tiles are counted y before x; S_k sums at rung k.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from data_prep.fold.regions import RungRegions
from data_prep.fold.resample import box_sums, halve_sums, round_sums
from data_prep.slides.readers.base import UnreadableError
from zoomldm.ladder import Ladder

BLOCK_PX = 512
MAX_UNREADABLE = 0.2

ReadBoxes = Callable[[int, int, int, int], tuple[np.ndarray, int]]


@dataclass
class FoldResult:
    """What could not be read: base tiles (y, x), and how many regions were left out for it."""

    unreadable: list[tuple[int, int]] = field(default_factory=list)
    num_blocks: int = 0
    num_regions_skipped: int = 0


def block_tiles(ladder: Ladder, block_px: int) -> int:
    """Return a block's side in tiles: a power of two, at least ``block_px``, whole pixels at the coarsest rung."""
    tiles = 1
    while tiles * ladder.patch_px < block_px or (tiles * ladder.patch_px) % 2 ** (ladder.num_rungs - 1):
        tiles *= 2
    return tiles


def morton_order(blocks_y: int, blocks_x: int) -> Iterator[tuple[int, int]]:
    """Yield (y, x) along the Z-order curve, so that neighbours are read near in time."""
    side = 1 << max(0, math.ceil(math.log2(max(blocks_y, blocks_x, 1))))

    def walk(y: int, x: int, side: int) -> Iterator[tuple[int, int]]:
        if y >= blocks_y or x >= blocks_x:
            return
        if side == 1:
            yield y, x
            return
        half = side // 2
        for dy in (0, half):
            for dx in (0, half):
                yield from walk(y + dy, x + dx, half)

    yield from walk(0, 0, side)


class Fold:
    """One pass over a slide.

    Args:
        read_boxes: (x_px, y_px, width_px, height_px) -> (pixels, factor), as ``Slide.read_boxes``.
        shape: (tiles_y, tiles_x) of the slide.
        regions: for each rung which regions to emit.
        encode: (tiles_y, tiles_x) bool, which tiles are given to ``on_tiles``.
        block_px: least side of a block in base pixels; what comes out does not depend on it.
    """

    def __init__(
        self,
        read_boxes: ReadBoxes,
        ladder: Ladder,
        shape: tuple[int, int],
        regions: list[RungRegions],
        encode: np.ndarray,
        block_px: int = BLOCK_PX,
    ) -> None:
        self.read_boxes, self.ladder, self.shape, self.encode = read_boxes, ladder, shape, encode
        self.regions = regions
        self.tiles = block_tiles(ladder, block_px)
        self.blocks = tuple(-(-n // self.tiles) for n in shape)
        self.unreadable = np.zeros(shape, bool)
        self._of_block: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._missing: dict[tuple[int, int], int] = {}
        self._pending: dict[tuple[int, int], np.ndarray] = {}
        for rung_index, chosen in enumerate(regions):
            side = chosen.rung.grid_side
            for row, (y, x) in enumerate(zip(chosen.y.tolist(), chosen.x.tolist())):
                spans = [range(v // self.tiles, -(-(v + side) // self.tiles)) for v in (y, x)]
                touched = [
                    (by, bx) for by in spans[0] for bx in spans[1] if by < self.blocks[0] and bx < self.blocks[1]
                ]
                self._missing[rung_index, row] = len(touched)
                for block in touched:
                    self._of_block.setdefault(block, []).append((rung_index, row))

    @property
    def needed_blocks(self) -> list[tuple[int, int]]:
        """Return the blocks that hold a region's pixels or a tile to encode, in reading order."""
        return [
            block
            for block in morton_order(*self.blocks)
            if block in self._of_block or self._tiles_of(self.encode, block).any()
        ]

    def _tiles_of(self, tile_map: np.ndarray, block: tuple[int, int]) -> np.ndarray:
        y, x = block[0] * self.tiles, block[1] * self.tiles
        return tile_map[y : y + self.tiles, x : x + self.tiles]

    def run(
        self,
        emit: Callable[[int, int, np.ndarray], None],
        on_tiles: Callable[[np.ndarray, np.ndarray], None],
        glass: np.ndarray,
    ) -> FoldResult:
        """Read every needed block once.

        Args:
            emit: called with (rung index, row, (p, p, 3) uint8) for every region, once its last block has been read.
            on_tiles: called with ((n, 2) tile positions y, x; (n, p, p, 3) uint8) for the tiles to encode.
            glass: colour of what lies beyond the last block, (3,) uint8.

        Raises:
            UnreadableError: more than a fifth of the tiles to encode cannot be decoded.
        """
        result = FoldResult()
        most_unreadable = max(64, int(MAX_UNREADABLE * self.encode.sum()))
        for block in self.needed_blocks:
            pixels, factor = self._read(block, result)
            result.num_blocks += 1
            if len(result.unreadable) > most_unreadable:
                raise UnreadableError(
                    f"{len(result.unreadable)} tiles cannot be decoded: more than a fifth of the slide"
                )
            self._fold_block(block, pixels, factor, emit, on_tiles, glass, result)
        return result

    def _read(self, block: tuple[int, int], result: FoldResult) -> tuple[np.ndarray, int]:
        """Read a block; where it fails, tile by tile, noting those that fail (their pixels are left black, unused)."""
        p, tiles = self.ladder.patch_px, self.tiles
        y, x = block[0] * tiles, block[1] * tiles
        try:
            return self.read_boxes(x * p, y * p, tiles * p, tiles * p)
        except UnreadableError:
            pass
        pieces: dict[tuple[int, int], np.ndarray] = {}
        factor = 1
        for ty in range(y, min(y + tiles, self.shape[0])):
            for tx in range(x, min(x + tiles, self.shape[1])):
                try:
                    pieces[ty, tx], factor = self.read_boxes(tx * p, ty * p, p, p)
                except UnreadableError:
                    self.unreadable[ty, tx] = True
                    result.unreadable.append((ty, tx))
        side = p * factor
        pixels = np.zeros((tiles * side, tiles * side, 3), np.uint8)
        for (ty, tx), piece in pieces.items():
            top, left = (ty - y) * side, (tx - x) * side
            pixels[top : top + side, left : left + side] = piece
        return pixels, factor

    def _fold_block(self, block, pixels, factor, emit, on_tiles, glass, result) -> None:
        p, tiles = self.ladder.patch_px, self.tiles
        wanted: dict[int, list[int]] = {}
        for rung_index, row in self._of_block.get(block, ()):
            wanted.setdefault(rung_index, []).append(row)
        sums, count = box_sums(pixels, factor), factor * factor
        base = round_sums(sums, count)
        self._give_tiles(block, base, on_tiles)
        for k in range(max(wanted, default=-1) + 1):
            if k:
                sums, count = halve_sums(sums, count), count * 4
            if k in wanted:
                image = base if k == 0 else round_sums(sums, count)
                for row in wanted[k]:
                    self._paste(k, row, block, image, emit, glass, result)
        assert base.shape[0] == tiles * p

    def _give_tiles(self, block: tuple[int, int], base: np.ndarray, on_tiles) -> None:
        p, tiles = self.ladder.patch_px, self.tiles
        wanted = self._tiles_of(self.encode, block) & ~self._tiles_of(self.unreadable, block)
        ys, xs = np.nonzero(wanted)
        if len(ys):
            view = base.reshape(tiles, p, tiles, p, 3)
            positions = np.stack([ys + block[0] * tiles, xs + block[1] * tiles], axis=1)
            on_tiles(positions, view[ys, :, xs])

    def _paste(self, k: int, row: int, block, image: np.ndarray, emit, glass: np.ndarray, result: FoldResult) -> None:
        """Copy what a block has of a region into its patch; emit the patch when nothing is missing any more."""
        p, chosen, number = self.ladder.patch_px, self.regions[k], (k, row)
        y_px, x_px = (int(v[row]) * p >> k for v in (chosen.y, chosen.x))  # of the region, at rung k
        top_px, left_px = (v * len(image) for v in block)
        y0, x0 = max(y_px, top_px), max(x_px, left_px)
        y1, x1 = min(y_px + p, top_px + len(image)), min(x_px + p, left_px + len(image))
        piece = image[y0 - top_px : y1 - top_px, x0 - left_px : x1 - left_px]
        if piece.shape[:2] != (p, p):
            patch = self._pending.get(number)
            if patch is None:
                patch = self._pending[number] = np.empty((p, p, 3), np.uint8)
                patch[:] = glass
            patch[y0 - y_px : y1 - y_px, x0 - x_px : x1 - x_px] = piece
            piece = patch
        self._missing[number] -= 1
        if self._missing[number]:
            return
        self._pending.pop(number, None)
        y, x, side = int(chosen.y[row]), int(chosen.x[row]), chosen.rung.grid_side
        if self.unreadable[y : y + side, x : x + side].any():
            result.num_regions_skipped += 1
        else:
            emit(k, row, piece)


def union_of(regions: list[RungRegions], shape: tuple[int, int]) -> np.ndarray:
    """Return the tiles that lie in any region, (tiles_y, tiles_x) bool."""
    marks = np.zeros((shape[0] + 1, shape[1] + 1), np.int64)
    for chosen in regions:
        side = chosen.rung.grid_side
        y1, x1 = np.minimum(chosen.y + side, shape[0]), np.minimum(chosen.x + side, shape[1])
        for ys, xs, sign in ((chosen.y, chosen.x, 1), (y1, chosen.x, -1), (chosen.y, x1, -1), (y1, x1, 1)):
            np.add.at(marks, (ys, xs), sign)
    return marks.cumsum(0).cumsum(1)[:-1, :-1] > 0


def crop_cells(cells: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
    """Crop a slide's map of row numbers; what lies beyond the edge is glass, 0."""
    crop = np.zeros((side, side), cells.dtype)
    inside = cells[y : y + side, x : x + side]
    crop[: inside.shape[0], : inside.shape[1]] = inside
    return crop
