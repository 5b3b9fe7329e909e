"""A slide as a pyramid of square tiles, each level twice as fine as the one before."""

from __future__ import annotations

import hashlib
import math
import os
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import openslide
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from zoomldm.errors import DataError

TILE_PX = 256
KEPT_TILES = 512
"""Encoded tiles that a slide keeps in memory, about 100 kB each."""
OBJECTIVE_MPP = 10.0
"""Magnification times micrometres a pixel: 20x is 0.5."""
COARSEST_MPP = 100.0
"""What a file says beyond that is the resolution of a print, not of a scan."""


def _encoded(image: Image.Image) -> bytes:
    """Return a PNG of a whole tile: what lies beyond the slide's edge is transparent."""
    tile = image
    if image.size != (TILE_PX, TILE_PX):
        tile = Image.new("RGBA", (TILE_PX, TILE_PX))
        tile.paste(image, (0, 0))
    buffer = BytesIO()
    tile.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


BEYOND = _encoded(Image.new("RGBA", (1, 1)))
"""The tile of a place where no slide is: a browser asks for the neighbours of what it shows, and for what is finer."""


class Pyramid:
    """A slide cut into tiles. Level 0 is one pixel, the last, ``finest``, the file's own pixels.

    Attributes:
        size: width and height of the finest level.
        mpp: micrometres a pixel there; ``says_its_scale``: by the file itself.
        key: names this state of this file in addresses; a file that was written anew has another.
    """

    def __init__(self, path: Path, *, mpp: float | None = None) -> None:
        """Open a slide.

        Args:
            mpp: of a slide that does not say its own.

        Raises:
            DataError: OpenSlide cannot read it, or its scale is unknown.
        """
        self.path, self.name = path, path.name
        try:
            facts = path.stat()
            self._slide = openslide.OpenSlide(path)
        except (OSError, openslide.OpenSlideError) as error:
            raise DataError(f"{path}: OpenSlide cannot read it ({error}); expected a slide of its formats") from error
        self._cut = DeepZoomGenerator(self._slide, tile_size=TILE_PX, overlap=0, limit_bounds=True)
        self.finest = self._cut.level_count - 1
        self.size = self._cut.level_dimensions[-1]
        stated = self._stated_mpp()
        self.says_its_scale, self.mpp = stated is not None, stated or mpp
        if self.mpp is None:
            raise DataError(f"{path}: does not say its scale; give it, in micrometres a pixel: mpp=0.5")
        state = f"{os.fspath(path.absolute())} {facts.st_size} {facts.st_mtime_ns}"
        self.key = hashlib.sha256(state.encode()).hexdigest()[:16]
        self.tile = lru_cache(KEPT_TILES)(self._tile)

    def _stated_mpp(self) -> float | None:
        """Return the file's own scale, or that of its objective."""
        stated = self._slide.properties

        def number(name: str) -> float:
            try:
                return float(stated.get(name, ""))
            except ValueError:
                return math.nan

        mpp, power = number(openslide.PROPERTY_NAME_MPP_X), number(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        if 0 < mpp <= COARSEST_MPP:
            return mpp
        return OBJECTIVE_MPP / power if 0 < power < math.inf else None

    def _tile(self, level: int, column: int, row: int) -> bytes:
        """Return the PNG of a tile, counted from the upper left corner; ``BEYOND`` where the pyramid has none.

        Raises:
            DataError: the file is damaged there.
        """
        columns, rows = self._cut.level_tiles[level] if level <= self.finest else (0, 0)
        if column >= columns or row >= rows:
            return BEYOND
        try:
            return _encoded(self._cut.get_tile(level, (column, row)))
        except openslide.OpenSlideError as error:  # which makes this handle of no further use
            self._slide = openslide.OpenSlide(self.path)
            self._cut = DeepZoomGenerator(self._slide, tile_size=TILE_PX, overlap=0, limit_bounds=True)
            raise DataError(f"{self.path}: damaged at level {level}, tile {column}, {row} ({error})") from error
