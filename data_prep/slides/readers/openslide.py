"""Slides through OpenSlide, every level and format that it knows."""

from pathlib import Path

import numpy as np
import openslide

from data_prep.slides.colour import colour_of
from data_prep.slides.files import FLAT_SUFFIXES, conversion_of
from data_prep.slides.ome import ome_properties
from data_prep.slides.readers.base import TIFF_SUFFIXES, SlideReader, UnreadableError
from zoomldm.errors import DataError

CACHE_BYTES = 128 << 20  # two columns of NDPI's tiles of 3840 x 8 px, 4096 px high; OpenSlide's own is 32 MB


class OpenSlideReader(SlideReader):
    """Any level through OpenSlide; opens the file anew after an error, since a failed handle stays failed.

    Raises:
        DataError: OpenSlide cannot open it.
    """

    suffixes = TIFF_SUFFIXES | {
        *(".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".dcm", ".czi"),
    }

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._slide = self._open()
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise DataError(f"{path}: not a slide that OpenSlide knows; {conversion_of(path)}") from error
        except (openslide.OpenSlideError, OSError) as error:
            raise DataError(f"{path}: OpenSlide cannot open it ({error}); {conversion_of(path)}") from error
        properties = dict(self._slide.properties)
        self.properties = ome_properties(properties.get("openslide.comment")) | properties
        self.level_sizes = list(self._slide.level_dimensions)
        self.downsamples = list(self._slide.level_downsamples)
        self.vendor = self.properties.get("openslide.vendor", "unknown")
        self.colour = colour_of(self._slide)

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Say whether a file is for OpenSlide: all but flat images, and of TIFFs those that it knows."""
        suffix = path.suffix.lower()
        if suffix in TIFF_SUFFIXES:
            return openslide.OpenSlide.detect_format(str(path)) is not None
        return suffix not in FLAT_SUFFIXES

    def _open(self) -> openslide.OpenSlide:
        """Open with ``openslide.OpenSlide``, never ``open_slide``, which falls back to PIL and raises PIL's errors."""
        slide = openslide.OpenSlide(str(self.path))
        slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
        return slide

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        downsample = self.downsamples[level]
        location_px0 = (round(x * downsample), round(y * downsample))
        try:
            rgba = np.asarray(self._slide.read_region(location_px0, level, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            self._slide.close()
            self._slide = self._open()
            raise UnreadableError(str(error)) from error
        if rgba[..., 3].min() == 255:
            return np.ascontiguousarray(rgba[..., :3])
        alpha = rgba[..., 3:].astype(np.float32) / 255
        blend = rgba[..., :3] * alpha + np.asarray(self.glass, np.float32) * (1 - alpha)
        return (blend + 0.5).astype(np.uint8)

    def decoder(self, level: int) -> str:
        return "openslide"

    def close(self) -> None:
        self._slide.close()
