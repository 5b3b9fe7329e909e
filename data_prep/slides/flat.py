"""Images without tiles (PNG, JPEG, plain and OME-TIFF), read whole, as slides of one level."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from einops import repeat
from PIL import Image

from data_prep.slides.colour import Colour, colour_of
from data_prep.slides.files import FLAT_SUFFIXES
from data_prep.slides.ome import ome_properties
from data_prep.slides.readers.base import TIFF_SUFFIXES, SlideReader
from zoomldm.errors import DataError

MAX_FLAT_PX = 1 << 29


class FlatReader(SlideReader):
    """A flat image in memory."""

    suffixes = FLAT_SUFFIXES | TIFF_SUFFIXES

    def __init__(self, path: Path) -> None:
        image = read_flat(path)
        self.pixels, self.colour = image.pixels, image.colour
        height, width = self.pixels.shape[:2]
        self.level_sizes, self.downsamples = [(width, height)], [1.0]
        self.vendor = "flat image"
        self.properties = image.properties

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self.pixels[y : y + height, x : x + width]

    def decoder(self, level: int) -> str:
        return "flat"


@dataclass(frozen=True, kw_only=True)
class FlatImage:
    """An image as its file holds it: (h, w, 3) uint8, what its profile asks for, its scale under OpenSlide's names."""

    pixels: np.ndarray
    colour: Colour
    properties: dict[str, str] = field(default_factory=dict)


def read_flat(path: Path) -> FlatImage:
    """Read a PNG, JPEG, untiled TIFF or OME-TIFF whole.

    Raises:
        DataError: not an 8-bit RGB or grey image, damaged, or too large to hold.
    """
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _read_flat_tiff(path)
        return _read_flat_pil(path)
    except DataError:
        raise
    except Exception as error:  # decoders raise many types on damaged files; each means the same to the user
        raise DataError(f"{path}: cannot be decoded ({error}); check the file or copy it again") from error


def _read_flat_pil(path: Path) -> FlatImage:
    Image.MAX_IMAGE_PIXELS = MAX_FLAT_PX
    with Image.open(path) as image:
        _check_flat_size(path, image.width, image.height)
        colour = colour_of(image.info.get("icc_profile"))
        if image.mode in ("RGBA", "LA", "PA"):
            rgba = image.convert("RGBA")
            canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            image = Image.alpha_composite(canvas, rgba)
        return FlatImage(pixels=np.asarray(image.convert("RGB")), colour=colour)


def _read_flat_tiff(path: Path) -> FlatImage:
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        axes, shape = series.axes, series.shape
        sizes = dict(zip(axes, shape))
        _check_flat_size(path, sizes.get("X", 0), sizes.get("Y", 0))
        pixels = series.asarray()
        properties = ome_properties(tiff.ome_metadata) if tiff.is_ome else {}
        profile = series.keyframe.iccprofile
    channel = next((axis for axis in "SC" if sizes.get(axis) in (3, 4)), None)
    keep = "YX" + (channel or "")
    pixels = pixels[tuple(slice(None) if axis in keep else 0 for axis in axes)]
    order = [axis for axis in axes if axis in keep]
    pixels = np.transpose(pixels, [order.index(axis) for axis in keep])
    if pixels.dtype != np.uint8:
        raise DataError(f"{path}: {pixels.dtype} pixels, expected 8-bit; convert the image")
    pixels = pixels[..., :3] if channel else repeat(pixels, "h w -> h w 3")
    return FlatImage(pixels=np.ascontiguousarray(pixels), colour=colour_of(profile), properties=properties)


def _check_flat_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_FLAT_PX or width * height == 0:
        raise DataError(
            f"{path}: {width}x{height} px without tiles, expected {MAX_FLAT_PX:,} px at most; make it a tiled TIFF"
        )
