"""One tiled level of a TIFF by its native tiles, decoded through tifffile with imagecodecs.

JPEG tiles are decoded four times faster than OpenSlide decodes them, JPEG 2000 tiles 1.4 times.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile

from data_prep.slides.readers.base import UnreadableError

CACHE_BYTES = 96 << 20
NUM_PROBES = 3

ReadLevel = Callable[[int, int, int, int, int], np.ndarray]
"""(level, x, y, width, height) -> pixels, as ``SlideReader.read``."""


class NativeLevel:
    """A tiled level of a TIFF, each native tile of which is decoded about once.

    Args:
        page: the level's page; 8-bit RGB.
        fallback: what reads a tile that tifffile cannot decode.

    Attributes:
        num_decoded: tiles decoded so far, repeats included; ``touched`` the different ones among them.
    """

    def __init__(self, path: Path, page: tifffile.TiffPage, level: int, fallback: ReadLevel) -> None:
        self.page, self.fallback, self.level = page, fallback, level
        self.height, self.width = page.imagelength, page.imagewidth
        self.tile_h, self.tile_w = page.tilelength, page.tilewidth
        self.across = -(-self.width // self.tile_w)
        self.num_decoded = 0
        self.touched: set[int] = set()
        self._fd = os.open(path, os.O_RDONLY)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._capacity = max(4, CACHE_BYTES // (self.tile_h * self.tile_w * 3))

    def decode(self, index: int) -> np.ndarray:
        """Decode native tile ``index`` through tifffile; (tile_h, tile_w, 3) uint8, shorter at the level's edge.

        Raises:
            UnreadableError: missing, cut short or damaged.
        """
        offset, size = self.page.dataoffsets[index], self.page.databytecounts[index]
        content = os.pread(self._fd, size, offset) if size else b""
        if len(content) != size or not size:
            raise UnreadableError(f"native tile {index} is missing or cut short")
        try:
            tile = self.page.decode(content, index, jpegtables=self.page.jpegtables)[0]
        except Exception as error:  # codecs raise types of their own; each means that the tile cannot be decoded
            raise UnreadableError(f"native tile {index}: {error}") from error
        if tile is None:
            raise UnreadableError(f"native tile {index} is empty")
        return tile.reshape(tile.shape[-3:])

    def tile(self, index: int) -> np.ndarray:
        """Return a native tile from the cache, else decoded, else (where tifffile fails) by the fallback."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        self.num_decoded += 1
        self.touched.add(index)
        try:
            tile = self.decode(index)
        except UnreadableError:
            x, y = index % self.across * self.tile_w, index // self.across * self.tile_h
            size = min(self.tile_w, self.width - x), min(self.tile_h, self.height - y)
            tile = self.fallback(self.level, x, y, *size)
        self._cache[index] = tile
        if len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return tile

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Read a rectangle that lies in the level; (height, width, 3) uint8.

        Raises:
            UnreadableError: a native tile in it can be decoded by nobody.
        """
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // self.tile_h, -(-(y + height) // self.tile_h)):
            for column in range(x // self.tile_w, -(-(x + width) // self.tile_w)):
                tile = self.tile(row * self.across + column)
                tile_y, tile_x = row * self.tile_h, column * self.tile_w
                top, left = max(y, tile_y), max(x, tile_x)
                bottom, right = min(y + height, tile_y + self.tile_h), min(x + width, tile_x + self.tile_w)
                out[top - y : bottom - y, left - x : right - x] = tile[
                    top - tile_y : bottom - tile_y, left - tile_x : right - tile_x
                ]
        return out

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._cache.clear()


def native_pages(path: Path, level_sizes: Sequence[tuple[int, int]]) -> dict[int, tifffile.TiffPage]:
    """Return for each level (by its width and height) the one tiled 8-bit RGB page of the TIFF that holds it."""
    try:
        pages = [page for page in tifffile.TiffFile(path).pages if _is_tiled_rgb(page)]
    except Exception:  # no TIFF, or one that tifffile cannot parse: OpenSlide reads it
        return {}
    found = {}
    for level, size in enumerate(level_sizes):
        matching = [page for page in pages if (page.imagewidth, page.imagelength) == tuple(size)]
        if len(matching) == 1:
            found[level] = matching[0]
    return found


def pages_below(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """Return the lower levels that a TIFF keeps in the sub-IFDs of its full-size page, tiled and coded alike."""
    try:
        below = list(page.pages or ())
    except Exception:  # damaged: the full size is there all the same
        return []
    found = [page]
    for one in below:
        down, across = found[-1].imagelength / one.imagelength, found[-1].imagewidth / one.imagewidth
        if _is_tiled_rgb(one) and has_same_coding(one, page) and across > 1 and abs(down / across - 1) < 0.01:
            found.append(one)
    return found[1:]


def _is_tiled_rgb(page: object) -> bool:
    return (
        isinstance(page, tifffile.TiffPage)
        and page.is_tiled
        and page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == 1
    )


def is_identical(native: NativeLevel, downsample: float) -> bool:
    """Read a few whole native tiles also by the fallback; say whether some could be compared and every pixel is equal.

    Besides tiles all over the level, those of the most bytes are tried, which hold tissue. Where the level's downsample
    is no integer, OpenSlide interpolates between pixels everywhere but at the origin (a corner in level-0 pixels lies
    between the level's): only the first tile can be compared.
    """
    num_compared = 0
    for index in _probes(native) if downsample.is_integer() else [0]:
        row, column = divmod(index, native.across)
        x, y = column * native.tile_w, row * native.tile_h
        width, height = min(native.tile_w, native.width - x), min(native.tile_h, native.height - y)
        try:
            tile = native.decode(index)[:height, :width]
            if not np.array_equal(tile, native.fallback(native.level, x, y, width, height)):
                return False
            num_compared += 1
        except UnreadableError:
            continue
    return num_compared > 0


def _probes(native: NativeLevel) -> list[int]:
    down = -(-native.height // native.tile_h)
    spread = [
        (2 * i + 1) * down // (2 * NUM_PROBES) * native.across
        + (2 * (NUM_PROBES - 1 - i) + 1) * native.across // (2 * NUM_PROBES)
        for i in range(NUM_PROBES)
    ]
    sizes = np.asarray(native.page.databytecounts[: down * native.across])
    return list(dict.fromkeys([*spread, *np.argsort(-sizes, kind="stable")[:NUM_PROBES].tolist()]))


def has_same_coding(one: tifffile.TiffPage, other: tifffile.TiffPage) -> bool:
    """Say whether two pages' tiles are coded alike, so that what holds for the pixels of one does for the other's."""
    codings = [(p.compression, p.photometric, p.subsampling, p.jpegtables is None) for p in (one, other)]
    return codings[0] == codings[1]
