"""The interface of slide readers: an open file's levels and their pixels. A new reader is one class and one YAML."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_prep.slides.colour import Colour
from zoomldm.config import Option
from zoomldm.errors import DataError

if TYPE_CHECKING:
    from data_prep.slides.readers.native import NativeLevel

WHITE = (255, 255, 255)
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})


class UnreadableError(Exception):
    """Pixels that no reader can give."""


class SlideReader(ABC):
    """An open slide; made as ``Reader(path=…)``, with its YAML's other arguments.

    Attributes:
        suffixes: of the files that are looked for in a folder of slides.
        vendor: the format, in a word.
        level_sizes: (width, height) of every level in its own pixels, the finest first.
        downsamples: level-0 pixels a pixel of every level.
        num_proven: how many of the levels, from the finest on, patches may be made of; others, of which it is not known
            whether their pixels are averages or picked, serve the thumbnail alone. None: all.
        properties: what the file says, under OpenSlide's names: openslide.mpp-x and -y, openslide.objective-power,
            openslide.bounds-x, -y, -width and -height (level-0 pixels; the whole level where they are missing).
        colour: what brings its pixels to sRGB; ``Slide`` applies it.
        glass: colour of what was not scanned, (3,) uint8; white until it is set.
    """

    suffixes: ClassVar[frozenset[str]] = frozenset()
    vendor: str
    level_sizes: list[tuple[int, int]]
    downsamples: list[float]
    num_proven: int | None = None
    properties: Mapping[str, str] = {}
    colour: Colour = Colour()
    glass: np.ndarray = np.array(WHITE, np.uint8)

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Say whether a file is of a kind that this class reads; it may still be damaged."""
        return path.suffix.lower() in cls.suffixes

    @abstractmethod
    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Read a rectangle that lies in the level, in the level's pixels; (height, width, 3) uint8.

        Raises:
            UnreadableError: a part of it cannot be decoded.
        """

    def decoder(self, level: int) -> str:
        """Return in a word what decodes a level's pixels; a slide's state keeps it."""
        return type(self).__name__

    def native(self, level: int) -> "NativeLevel | None":
        """Return what reads a level by its native tiles, None where nothing does."""
        return None

    def close(self) -> None:
        """Close the file."""
        return None


def open_reader(path: Path, readers: Sequence[Option]) -> SlideReader:
    """Open a slide by the first of ``readers`` that reads its kind.

    Raises:
        DataError: none does, or it is damaged.
        ConfigError: a reader that cannot be made.
    """
    for option in readers:
        if option.target(SlideReader).reads(path):
            return option.make(SlideReader, path=path)
    names = ", ".join(option.name for option in readers)
    raise DataError(f"{path}: not a kind of file that reader=[{names}] reads; leave it out or add a reader for it")


def suffixes_of(readers: Sequence[Option]) -> frozenset[str]:
    """Return the suffixes of the slides that are looked for in a folder."""
    return frozenset().union(*(option.target(SlideReader).suffixes for option in readers))
