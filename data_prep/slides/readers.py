"""Read pixels of a slide's levels: native tiles through tifffile where they equal OpenSlide's, OpenSlide for the rest.

tifffile with imagecodecs decodes JPEG tiles four times faster than OpenSlide, JPEG 2000 tiles 1.4 times. Whether the
pixels are the same is not assumed: a few tiles of the level are read both ways when the slide is opened.
"""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import openslide
import tifffile

CACHE_BYTES = 96 << 20
OPENSLIDE_CACHE_BYTES = 128 << 20  # two columns of NDPI's tiles of 3840 x 8 px, 4096 px high; OpenSlide's own is 32 MB
NUM_PROBES = 3


class UnreadableError(Exception):
    """Pixels that no reader can give."""


class OpenSlideReader:
    """Any level through OpenSlide; opens the file anew after an error, since a failed handle stays failed.

    Attributes:
        fill: colour of what OpenSlide gives as transparent, because it was not scanned; (3,) uint8.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.fill = path, np.array([255, 255, 255], np.uint8)
        self._slide = self._open()

    def _open(self) -> openslide.OpenSlide:
        slide = openslide.OpenSlide(str(self.path))
        slide.set_cache(openslide.OpenSlideCache(OPENSLIDE_CACHE_BYTES))
        return slide

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Read a rectangle that lies in the level, in the level's pixels; (height, width, 3) uint8.

        Raises:
            UnreadableError: OpenSlide failed.
        """
        downsample = self._slide.level_downsamples[level]
        location = (round(x * downsample), round(y * downsample))
        try:
            rgba = np.asarray(self._slide.read_region(location, level, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            self.close()
            self._slide = self._open()
            raise UnreadableError(str(error)) from error
        if rgba[..., 3].min() == 255:
            return np.ascontiguousarray(rgba[..., :3])
        alpha = rgba[..., 3:].astype(np.float32) / 255
        blend = rgba[..., :3] * alpha + np.asarray(self.fill, np.float32) * (1 - alpha)
        return (blend + 0.5).astype(np.uint8)

    def downsample(self, level: int) -> float:
        return self._slide.level_downsamples[level]

    def close(self) -> None:
        self._slide.close()


class NativeTileReader:
    """One tiled level of a TIFF by its native tiles, each decoded about once.

    Attributes:
        num_decoded: tiles decoded so far, repeats included; ``touched`` the different ones among them.
    """

    def __init__(self, path: Path, page: tifffile.TiffPage, fallback: OpenSlideReader, level: int) -> None:
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
        """Return a native tile from the cache, else decoded, else (where tifffile fails) through OpenSlide."""
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
            tile = self.fallback.read(self.level, x, y, *size)
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


def native_pages(path: Path, dimensions: list[tuple[int, int]]) -> dict[int, tifffile.TiffPage]:
    """Return for each level (by its width and height) the one tiled 8-bit RGB page of the TIFF that holds it."""
    try:
        pages = list(tifffile.TiffFile(path).pages)
    except Exception:  # no TIFF, or one that tifffile cannot parse: OpenSlide reads it
        return {}
    found = {}
    for level, (width, height) in enumerate(dimensions):
        matching = [
            page
            for page in pages
            if isinstance(page, tifffile.TiffPage)
            and page.is_tiled
            and (page.imagewidth, page.imagelength) == (width, height)
            and page.dtype == np.uint8
            and page.samplesperpixel == 3
            and page.planarconfig == 1
        ]
        if len(matching) == 1:
            found[level] = matching[0]
    return found


def is_identical(reader: NativeTileReader, openslide_reader: OpenSlideReader, level: int) -> bool:
    """Read a few whole native tiles both ways and say whether every pixel is the same.

    Where the level's downsample is no integer, OpenSlide interpolates between pixels everywhere but at the origin (a
    corner in level-0 pixels lies between the level's): only the first tile can be compared.
    """
    down = -(-reader.height // reader.tile_h)
    places = [
        ((2 * i + 1) * down // (2 * NUM_PROBES), (2 * (NUM_PROBES - 1 - i) + 1) * reader.across // (2 * NUM_PROBES))
        for i in range(NUM_PROBES)
    ]
    for row, column in places if openslide_reader.downsample(level).is_integer() else [(0, 0)]:
        x, y = column * reader.tile_w, row * reader.tile_h
        width, height = min(reader.tile_w, reader.width - x), min(reader.tile_h, reader.height - y)
        try:
            native = reader.decode(row * reader.across + column)[:height, :width]
            if not np.array_equal(native, openslide_reader.read(level, x, y, width, height)):
                return False
        except UnreadableError:
            continue
    return True


def _coding(page: tifffile.TiffPage) -> tuple[object, ...]:
    return page.compression, page.photometric, page.subsampling, page.jpegtables is None


class LevelReader:
    """Pixels of every level of a slide, by the fastest reader whose pixels are OpenSlide's."""

    def __init__(self, path: Path, dimensions: list[tuple[int, int]], use_native: bool = True) -> None:
        self.path = path
        self.openslide = OpenSlideReader(path)
        self._native: dict[int, NativeTileReader | None] = {}
        self._pages = native_pages(path, dimensions) if use_native else {}

    @property
    def fill(self) -> np.ndarray:
        return self.openslide.fill

    @fill.setter
    def fill(self, colour: np.ndarray) -> None:
        self.openslide.fill = colour

    def native(self, level: int) -> NativeTileReader | None:
        """Return the level's native reader if its pixels have been seen to equal OpenSlide's, else None."""
        if level not in self._native:
            self._native[level] = self._checked(level)
        return self._native[level]

    def _checked(self, level: int) -> NativeTileReader | None:
        page = self._pages.get(level)
        if page is None:
            return None
        alone = level and not self.openslide.downsample(level).is_integer()  # one tile alone says little:
        if alone and (self.native(0) is None or _coding(page) != _coding(self._pages[0])):  # let level 0 speak as well
            return None
        reader = NativeTileReader(self.path, page, self.openslide, level)
        if is_identical(reader, self.openslide, level):
            return reader
        reader.close()
        return None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        native = self.native(level)
        if native is not None:
            return native.read(x, y, width, height)
        return self.openslide.read(level, x, y, width, height)

    def close(self) -> None:
        for reader in self._native.values():
            if reader is not None:
                reader.close()
        self.openslide.close()


class ArrayReader:
    """A flat image in memory, one level; every pixel is there, ``fill`` is not needed."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.fill = pixels, np.array([255, 255, 255], np.uint8)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self.pixels[y : y + height, x : x + width]

    def native(self, level: int) -> None:
        return None

    def close(self) -> None:
        pass
