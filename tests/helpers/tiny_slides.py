"""Slides of a few thousand pixels for tests: stained noise on glass, written as OpenSlide reads it."""

import struct
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from omegaconf import OmegaConf
from PIL import ImageCms
from scipy import ndimage

from data_prep.fold.regions import RegionSettings
from data_prep.settings import SlideSettings
from data_prep.slides.readers.base import suffixes_of
from data_prep.slides.slide import Slide
from data_prep.slides.table import SlideSpec
from data_prep.tissue.mask import TissueSettings, segmenter_of
from data_prep.tissue.segmenter import Segmenter
from tests.helpers.settings import make_ladder
from zoomldm.composing import compose_jobs
from zoomldm.config import Option, option_of, options_of

ROOT = Path(__file__).resolve().parents[2]
GLASS = (244, 242, 243)
SMALL_TISSUE = {"min_object_um2": 100.0, "max_hole_um2": 100.0, "smooth_um": 4.0}
"""Values of conf/tissue for slides of some hundred pixels."""


def readers(*names: str) -> tuple[Option, ...]:
    """Return options of conf/reader, as ``reader=[…]`` chooses them."""
    sections: dict = {}
    for name in names:
        sections |= OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "reader" / f"{name}.yaml"))
    return tuple(options_of("reader", sections).values())


READERS = readers("auto", "flat")
SUFFIXES = suffixes_of(READERS)


def spec_of(path: Path, **values) -> SlideSpec:
    """Return a slide's line of a table, its name and patient the file's stem."""
    return SlideSpec(**({"path": path, "name": path.stem, "patient": path.stem} | values))


def open_slide(path: Path, *, options: tuple[Option, ...] = READERS, **values) -> Slide:
    """Open a slide for a base of 0.5 mpp; ``values`` go into its line of the table."""
    return Slide(spec_of(path, **values), 0.5, options)


def tissue_pixels(width: int, height: int, seed: int = 0, margin: float = 0.12) -> np.ndarray:
    """Return (height, width, 3) uint8: an ellipse of pink and violet noise on glass."""
    rng = np.random.default_rng([seed, width, height])
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) < (0.5 - margin) ** 2
    coarse = rng.random((-(-height // 16) + 1, -(-width // 16) + 1))
    violet = ndimage.zoom(coarse, 16, order=1)[:height, :width, None]
    stain = violet * np.array([120, 70, 150]) + (1 - violet) * np.array([225, 140, 180])
    stain = stain + rng.normal(0, 14, (height, width, 1))
    pixels = np.where(inside[..., None], stain, np.array(GLASS) + rng.normal(0, 0.8, (height, width, 1)))
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float | None = 0.5,
    downsamples: tuple[float, ...] = (1, 4),
    tile: int = 256,
    jpeg: bool = False,
    description: str | None = None,
    icc: bytes | None = None,
) -> Path:
    """Write a tiled pyramid; levels are strided copies. Without JPEG the pixels are kept exactly."""
    extra = {"compression": "jpeg", "compressionargs": {"level": 90}, "subsampling": (2, 2)} if jpeg else {}
    with tifffile.TiffWriter(path) as tiff:
        for number, downsample in enumerate(downsamples):
            size = [int(n / downsample) for n in pixels.shape[:2]]
            rows, columns = (
                np.minimum((np.arange(n) * downsample).astype(int), m - 1) for n, m in zip(size, pixels.shape)
            )
            scale = {}
            if mpp is not None:
                scale = {"resolution": (1e4 / (mpp * downsample),) * 2, "resolutionunit": "CENTIMETER"}
            tiff.write(
                pixels[rows][:, columns],
                tile=(tile, tile),
                photometric="rgb",
                subfiletype=int(number > 0),
                metadata=None,
                description=description if number == 0 else None,
                iccprofile=icc,
                **scale,
                **extra,
            )
    return path


def write_svs(
    path: Path,
    pixels: np.ndarray,
    *,
    compression: str | int = "jpeg",
    fields: str = "AppMag = 40|MPP = 0.25",
    icc: bytes | None = None,
) -> Path:
    """Write an SVS as Aperio's scanners do: level 0, a thumbnail in strips, a level of a quarter the side.

    Args:
        compression: of the tiles: "jpeg" (YCbCr, 4:2:0), 33005 (JPEG 2000 of RGB, lossless) or 33003 (JPEG 2000 of
            ``pixels`` taken as YCbCr).
        fields: the description's fields, between bars.
    """
    height, width = pixels.shape[:2]
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 90}, "subsampling": (2, 2)}
    tiles = {"tile": (240, 240), **(jpeg if compression == "jpeg" else {"compression": compression})}
    small = pixels[::4, ::4]
    head = f"Aperio Image Library v11.2.1\r\n{width}x{height} [0,0 {width}x{height}] (240x240)"
    common = {"photometric": "rgb", "metadata": None, "iccprofile": icc}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, description=f"{head} Q=90|{fields}", **common, **tiles)
        tiff.write(small, description=f"{head} -> thumbnail|{fields}", rowsperstrip=16, **common, **jpeg)
        tiff.write(small, description=f"{head} -> {small.shape[1]}x{small.shape[0]} Q=90|{fields}", **common, **tiles)
    return path


def swapped_profile() -> bytes:
    """Return an RGB profile, called sRGB, whose red and blue primaries have changed places: to sRGB, R and B swap."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (count,) = struct.unpack(">I", srgb[128:132])
    place = {srgb[i : i + 4]: slice(i + 4, i + 12) for i in range(132, 132 + 12 * count, 12)}  # offset and size
    swapped = bytearray(srgb)
    swapped[place[b"rXYZ"]], swapped[place[b"bXYZ"]] = srgb[place[b"bXYZ"]], srgb[place[b"rXYZ"]]
    return bytes(swapped)


@cache
def tissue_option(name: str, **values: float) -> Option:
    """Return an option of conf/tissue, some of its values changed."""
    words = [f"tissue={name}", *(f"tissue.{key}={value}" for key, value in values.items())]
    return Option("tissue", OmegaConf.to_container(compose_jobs("prepare", words)[0].tissue))


def tissue_settings(
    name: str = "default",
    *,
    cells_per_tile: int = 4,
    min_focus: float | None = None,
    regions: str | None = None,
    regions_replace: bool = False,
    **values: float,
) -> TissueSettings:
    """Return a mask's settings: an option of conf/tissue with some of its values changed."""
    option = tissue_option(name, **values)
    return TissueSettings(
        segmenter=option,
        cells_per_tile=cells_per_tile,
        min_tile=0.1,
        min_focus=min_focus,
        regions=regions,
        regions_replace=regions_replace,
    )


@cache
def segmenter(name: str = "default", **values: float) -> Segmenter:
    """Return a segmenter of conf/tissue, some of its values changed."""
    return segmenter_of(tissue_settings(name, **values).segmenter)


def tiny_settings(
    *,
    patch_px: int = 16,
    num_rungs: int = 4,
    stride: float = 1.0,
    min_tissue: float = 0.3,
    max_per_slide: int | None = None,
    min_object_um2: float = 100.0,
    **values,
) -> SlideSettings:
    """Return settings for slides of some hundred pixels: stats encoder, four rungs of 16 px patches."""
    ladder = make_ladder(patch_px=patch_px, num_rungs=num_rungs)
    tissue = tissue_settings(min_object_um2=min_object_um2, max_hole_um2=100.0, smooth_um=2.0)
    by_label = {
        "min_tissue": dict.fromkeys(ladder.labels, min_tissue),
        "stride": dict.fromkeys(ladder.labels, stride) | {ladder.labels[0]: 1.0},
        "max_per_slide": dict.fromkeys(ladder.labels, max_per_slide),
    }
    defaults = {
        "encoder": option_of("encoder", "stats"),
        "readers": READERS,
        "tissue": tissue,
        "image_format": "png",
        "reference": dict.fromkeys(ladder.labels, 0.0),
        "area_test_fraction": 0.4,
        "encode_background": False,
        "mpp": None,
        "icc": True,
        "cache": None,
        "seed": 0,
    }
    return SlideSettings(ladder=ladder, regions=RegionSettings(**by_label), **(defaults | values))
