"""Every level by the fastest reader: native tiles where they equal OpenSlide's pixels, OpenSlide for the rest.

Whether the pixels are the same is not assumed: a few tiles of the level are read both ways when it is first used.

Of TIFFs that keep their lower levels in sub-IFDs (OME-TIFF by QuPath, bfconvert) OpenSlide knows the full size alone.
The others are read natively where level 0 was seen to be right, for the thumbnail, which would take all of level 0.
"""

from pathlib import Path

import numpy as np

from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.readers.native import NativeLevel, has_same_coding, is_identical, native_pages, pages_below
from data_prep.slides.readers.openslide import OpenSlideReader


class LevelReader(OpenSlideReader):
    """OpenSlide, but for levels of a TIFF whose native tiles have been seen to give the same pixels."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._native: dict[int, NativeLevel | None] = {}
        self._pages = native_pages(path, self.level_sizes)
        below = pages_below(self._pages[0]) if len(self.level_sizes) == 1 and self._pages else []
        if below and self.native(0) is not None:
            self.num_proven = 1
            for page in below:
                self._pages[len(self.level_sizes)] = page
                self.level_sizes.append((page.imagewidth, page.imagelength))
                self.downsamples.append(self.level_sizes[0][0] / page.imagewidth)

    def native(self, level: int) -> NativeLevel | None:
        """Return the level's native tiles if their pixels have been seen to equal OpenSlide's, else None."""
        if level not in self._native:
            self._native[level] = self._checked(level)
        return self._native[level]

    def _checked(self, level: int) -> NativeLevel | None:
        page, downsample = self._pages.get(level), self.downsamples[level]
        if page is None:
            return None
        if self.num_proven is not None and level >= self.num_proven:
            return NativeLevel(self.path, page, level, _unreadable)
        alone = level and not downsample.is_integer()  # only one tile can be compared: let level 0 speak as well
        if alone and (self.native(0) is None or not has_same_coding(page, self._pages[0])):
            return None
        native = NativeLevel(self.path, page, level, super().read)
        if is_identical(native, downsample):
            return native
        native.close()
        return None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        native = self.native(level)
        if native is not None:
            return native.read(x, y, width, height)
        return super().read(level, x, y, width, height)

    def decoder(self, level: int) -> str:
        return "tifffile" if self.native(level) else super().decoder(level)

    def close(self) -> None:
        for native in self._native.values():
            if native is not None:
                native.close()
        super().close()


def _unreadable(level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    raise UnreadableError(f"level {level} cannot be decoded at {x}, {y}, and OpenSlide does not know it")
