"""Fold a slide's tiles upwards: one read of each block of base pixels makes the patches of every magnification.

A block is 2^b x 2^b tiles, visited in Morton order. Its exact sums are halved in resolution rung by rung (four
children make their parent), so a pixel of rung k is the rounded mean of its (factor·2^k)^2 read pixels, rounded once.
Block sides are multiples of the coarsest rung's pixel, so every pixel of every rung lies in one block; a region larger
than a block, or lying across blocks, is put together from the pieces of several.

Legend: p patch side, k rung, ty tx tiles and y x pixels of them, c channel; pairs are y before x.
"""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from einops import rearrange

from data_prep.fold.pieces import Block, RungPieces
from data_prep.fold.regions import RungRegions
from data_prep.fold.sums import box_sums, halve_sums, round_sums
from data_prep.slides.readers.base import UnreadableError
from zoomldm.ladder import Ladder

BLOCK_PX = 512
MAX_UNREADABLE, FEW_UNREADABLE = 0.2, 64

ReadBoxes = Callable[[int, int, int, int], tuple[np.ndarray, int]]
"""(x_px, y_px, width_px, height_px) -> (pixels, factor), as ``Slide.read_boxes``."""
Emit = Callable[[int, int, np.ndarray], None]
"""Takes rung, row and patch, (p, p, 3) uint8, of a region."""
OnTiles = Callable[[np.ndarray, np.ndarray], None]
"""Takes (n, 2) tiles y, x and their pixels, (n, p, p, 3) uint8."""


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
        read_boxes: reads base pixels.
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
        self.blocks = (-(-shape[0] // self.tiles), -(-shape[1] // self.tiles))
        self.unreadable = np.zeros(shape, bool)

    @property
    def needed_blocks(self) -> list[Block]:
        """The blocks that hold a region's pixels or a tile to encode, in reading order."""
        needed = union_of(self.regions, self.shape) | self.encode
        return [block for block in morton_order(*self.blocks) if self._tiles_of(needed, block).any()]

    def _tiles_of(self, tile_map: np.ndarray, block: Block) -> np.ndarray:
        """Crop a map of the slide's tiles, (tiles_y, tiles_x), to a block's."""
        y, x = block[0] * self.tiles, block[1] * self.tiles
        return tile_map[y : y + self.tiles, x : x + self.tiles]

    def run(self, emit: Emit, on_tiles: OnTiles, glass: np.ndarray) -> FoldResult:
        """Read every needed block once.

        Args:
            emit: called for every region, once its last block has been read.
            on_tiles: called for the tiles to encode.
            glass: colour of what lies beyond the last block, (3,) uint8.

        Raises:
            UnreadableError: more than a fifth of the tiles to encode cannot be decoded.
        """
        result = FoldResult()
        pieces = [
            RungPieces(chosen, tiles=self.tiles, num_blocks=self.blocks, patch_px=self.ladder.patch_px, glass=glass)
            for chosen in self.regions
        ]
        for block in self.needed_blocks:
            pixels, factor = self._read(block, result)
            touching = {k: rows for k, of_rung in enumerate(pieces) if (rows := of_rung.rows_at(block))}
            for k, image in rung_images(pixels, factor, {0, *touching}):
                if k == 0:
                    self._give_tiles(block, image, on_tiles)
                for row, patch in pieces[k].add(block, image, touching[k]) if k in touching else ():
                    if self._is_unreadable(k, row):
                        result.num_regions_skipped += 1
                    else:
                        emit(k, row, patch)
        assert not any(of_rung.waiting for of_rung in pieces)
        return result

    def _read(self, block: Block, result: FoldResult) -> tuple[np.ndarray, int]:
        """Read a block; where it fails, tile by tile, noting those that fail (their pixels are left black, unused)."""
        p, tiles = self.ladder.patch_px, self.tiles
        y, x = block[0] * tiles, block[1] * tiles
        result.num_blocks += 1
        try:
            return self.read_boxes(x * p, y * p, tiles * p, tiles * p)
        except UnreadableError:
            pass
        parts: dict[tuple[int, int], np.ndarray] = {}
        factor = 1
        for ty in range(y, min(y + tiles, self.shape[0])):
            for tx in range(x, min(x + tiles, self.shape[1])):
                try:
                    parts[ty, tx], factor = self.read_boxes(tx * p, ty * p, p, p)
                except UnreadableError:
                    self.unreadable[ty, tx] = True
                    result.unreadable.append((ty, tx))
        if len(result.unreadable) > max(FEW_UNREADABLE, int(MAX_UNREADABLE * self.encode.sum())):
            raise UnreadableError(f"{len(result.unreadable)} tiles cannot be decoded: more than a fifth of the slide")
        side = p * factor
        pixels = np.zeros((tiles * side, tiles * side, 3), np.uint8)
        for (ty, tx), part in parts.items():
            top, left = (ty - y) * side, (tx - x) * side
            pixels[top : top + side, left : left + side] = part
        return pixels, factor

    def _give_tiles(self, block: Block, base: np.ndarray, on_tiles: OnTiles) -> None:
        """Give away the block's tiles that are to be encoded and could be read."""
        ys, xs = np.nonzero(self._tiles_of(self.encode, block) & ~self._tiles_of(self.unreadable, block))
        if len(ys):
            tiles = rearrange(base, "(ty y) (tx x) c -> ty tx y x c", ty=self.tiles, tx=self.tiles)
            corner = np.array(block) * self.tiles
            on_tiles(np.stack([ys, xs], axis=1) + corner, tiles[ys, xs])

    def _is_unreadable(self, k: int, row: int) -> bool:
        chosen = self.regions[k]
        y, x, side = int(chosen.y[row]), int(chosen.x[row]), chosen.rung.grid_side
        return bool(self.unreadable[y : y + side, x : x + side].any())


def rung_images(pixels: np.ndarray, factor: int, rungs: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (k, block at rung k, uint8) for the wanted rungs, the finest first.

    Args:
        pixels: (h, w, 3) uint8, of which boxes of ``factor`` make a base pixel.
    """
    sums, count = box_sums(pixels, factor), factor * factor
    for k in range(max(rungs) + 1):
        if k:
            sums, count = halve_sums(sums, count), count * 4
        if k in rungs:
            yield k, round_sums(sums, count)


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
