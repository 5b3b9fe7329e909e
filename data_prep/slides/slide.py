"""A slide as a plane of base pixels: which level is read, how it reaches the base mpp, and where level 0 lies.

Scale. The level 0 mpp comes from the file, else its objective power, else ``slide.mpp`` or the slide table. Of the
levels, the coarsest is taken whose mpp an integer box (1, 2, ...) brings within 10 % of the base mpp; failing that,
the coarsest one finer than the base is resampled by area.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from PIL import Image, ImageCms

from data_prep.fold.resample import area_resample, area_span
from data_prep.slides.files import readable_stamp
from data_prep.slides.readers import ArrayReader, LevelReader, UnreadableError
from zoomldm.errors import DataError

MPP_RANGE = (0.05, 20.0)
BOX_TOLERANCE = 0.10
OBJECTIVE_MPP = 10.0  # mpp = 10 / objective power: 20x is 0.5, 40x 0.25
FLAT_SUFFIXES = {".png", ".jpg", ".jpeg"}
TIFF_SUFFIXES = {".tif", ".tiff"}
SLIDE_SUFFIXES = {
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".dcm", ".czi"),
    *FLAT_SUFFIXES,
}
MAX_FLAT_PX = 1 << 29
SRGB_TOLERANCE = 1  # grey levels: what rounding alone makes of two profiles that both are sRGB
STRIP_PX = 1 << 22  # of a level, read at once for the thumbnail


@dataclass(frozen=True, kw_only=True)
class SlideSpec:
    """A slide to prepare: a line of the slide table."""

    path: Path
    name: str
    patient: str
    split: str | None = None
    mpp: float | None = None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How base pixels are made.

    Attributes:
        level: level of the file that is read; ``downsample`` its level-0 pixels a pixel.
        box: integer box from the level to the base, or None where ``ratio`` level pixels are resampled into one.
        mpp_true: micrometres a base pixel.
    """

    level: int
    downsample: float
    box: int | None
    ratio: float
    mpp_level0: float
    mpp_true: float
    source: str

    @property
    def method(self) -> str:
        return "resampled" if self.box is None else "as it is" if self.box == 1 else f"box of {self.box}"


def is_sane(mpp: float | None) -> bool:
    return mpp is not None and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]


def mpp_of(properties: dict[str, str], given: float | None, path: Path) -> tuple[float, str]:
    """Return level-0 micrometres a pixel and where the number comes from.

    Raises:
        DataError: none in the file and none given, or nonsense.
    """

    def number(name: str) -> float | None:
        try:
            return float(properties[name])
        except (KeyError, ValueError):
            return None

    seen = []
    mpp_x, mpp_y = number("openslide.mpp-x"), number("openslide.mpp-y")
    if mpp_x is not None:
        mpp = (mpp_x + (mpp_y or mpp_x)) / 2
        if is_sane(mpp) and abs(mpp_x - (mpp_y or mpp_x)) <= 0.1 * mpp:
            return mpp, "mpp of the file"
        seen.append(f"mpp {mpp_x:g} x {mpp_y or mpp_x:g}")
    power = number("openslide.objective-power")
    if power:
        if is_sane(OBJECTIVE_MPP / power):
            return OBJECTIVE_MPP / power, "objective power of the file"
        seen.append(f"objective power {power:g}")
    if given is not None:
        if is_sane(given):
            return float(given), "given mpp"
        seen.append(f"given mpp {given:g}")
    found = f"has {' and '.join(seen)}, expected {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g} mpp" if seen else "has no scale"
    raise DataError(f"{path}: {found}; give one with slide.mpp=0.5 or an mpp column in the slide table")


def choose_scale(mpp_level0: float, downsamples: list[float], base_mpp: float, source: str, path: Path) -> Scale:
    """Choose level and method for a base mpp.

    Raises:
        DataError: the slide is coarser than the base.
    """
    best: Scale | None = None
    for level, downsample in enumerate(downsamples):
        level_mpp = mpp_level0 * downsample
        ratio = base_mpp / level_mpp
        box = round(ratio)
        if box >= 1 and abs(ratio / box - 1) <= BOX_TOLERANCE:
            best = Scale(
                level=level,
                downsample=downsample,
                box=box,
                ratio=float(box),
                mpp_level0=mpp_level0,
                mpp_true=level_mpp * box,
                source=source,
            )
    if best:
        return best
    finer = [level for level, downsample in enumerate(downsamples) if mpp_level0 * downsample < base_mpp]
    if not finer:
        raise DataError(
            f"{path}: scanned at {mpp_level0:.4g} mpp, coarser than the ladder's {base_mpp:g}; leave the slide out or "
            "choose a ladder with a larger data.ladder.base_mpp"
        )
    level = finer[-1]
    ratio = base_mpp / (mpp_level0 * downsamples[level])
    return Scale(
        level=level,
        downsample=downsamples[level],
        box=None,
        ratio=ratio,
        mpp_level0=mpp_level0,
        mpp_true=base_mpp,
        source=source,
    )


class Slide:
    """An open slide: base pixels (the ladder's 20x), its scale and its edges.

    Base pixel (i, j) covers level-0 pixels from ``x0_px0 + i * pitch_px0`` on. Pixels beyond the edge, and those that
    were not scanned, have the colour ``glass``: white until it is set, once the tissue mask has found it.

    Raises:
        DataError: cannot be opened, has no usable scale, is coarser than the base.
    """

    def __init__(self, spec: SlideSpec, base_mpp: float, *, use_native: bool = True) -> None:
        self.spec, self.path = spec, spec.path
        self.stamp = readable_stamp(spec.path)
        self._glass = np.array([255, 255, 255], np.uint8)
        self.icc: ImageCms.ImageCmsTransform | None = None
        slide = self._open_slide()
        if slide is None:
            self._open_flat(base_mpp)
            return
        with slide:
            properties = dict(slide.properties)
            self.level_sizes = list(slide.level_dimensions)
            self.downsamples = list(slide.level_downsamples)
            self.icc = icc_transform_of(slide)
            self.vendor = properties.get("openslide.vendor", "unknown")
        mpp, source = mpp_of(properties, spec.mpp, self.path)
        self.scale = choose_scale(mpp, self.downsamples, base_mpp, source, self.path)
        self._set_bounds(properties)
        self.reader = LevelReader(self.path, self.level_sizes, use_native)

    def _open_slide(self) -> openslide.OpenSlide | None:
        """Open with OpenSlide, or return None for a flat image.

        ``openslide.OpenSlide`` and never ``open_slide``: that falls back to PIL and raises PIL's errors.
        """
        suffix = self.path.suffix.lower()
        if suffix in FLAT_SUFFIXES:
            return None
        if self.stamp[0] == 0:
            raise DataError(f"{self.path}: an empty file (0 bytes); copy the slide again")
        try:
            return openslide.OpenSlide(str(self.path))
        except openslide.OpenSlideUnsupportedFormatError as error:
            if suffix in TIFF_SUFFIXES:
                return None
            raise DataError(f"{self.path}: not a slide that OpenSlide knows; check the file") from error
        except (openslide.OpenSlideError, OSError) as error:
            raise DataError(
                f"{self.path}: OpenSlide cannot open it ({error}); check the file or copy it again"
            ) from error

    def _open_flat(self, base_mpp: float) -> None:
        pixels, icc, mpp = read_flat(self.path)
        if icc is not None:
            pixels = apply_icc(icc, pixels)
        height, width = pixels.shape[:2]
        self.level_sizes, self.downsamples = [(width, height)], [1.0]
        self.vendor = "flat image"
        given = self.spec.mpp if self.spec.mpp is not None else mpp
        value, source = mpp_of({}, given, self.path)
        self.scale = choose_scale(value, [1.0], base_mpp, source, self.path)
        self._set_bounds({})
        self.reader = ArrayReader(pixels)

    def _set_bounds(self, properties: dict[str, str]) -> None:
        """Set the plane's origin and size from the file's bounds (openslide.bounds-*), else from the whole level."""
        names = ("x", "y", "width", "height")
        values = [properties.get(f"openslide.bounds-{name}") for name in names]
        width, height = self.level_sizes[0]
        x, y, w, h = (int(v) for v in values) if all(v is not None for v in values) else (0, 0, width, height)
        scale, size = self.scale, self.level_sizes[self.scale.level]
        self.x_level, self.y_level = round(x / scale.downsample), round(y / scale.downsample)
        self.w_level = min(round(w / scale.downsample), size[0] - self.x_level)
        self.h_level = min(round(h / scale.downsample), size[1] - self.y_level)
        self.width_px = int(np.ceil(self.w_level / scale.ratio - 1e-6))
        self.height_px = int(np.ceil(self.h_level / scale.ratio - 1e-6))
        self.bounds_px0 = (x, y, w, h)

    @property
    def glass(self) -> np.ndarray:
        return self._glass

    @glass.setter
    def glass(self, colour: np.ndarray) -> None:
        self._glass = self.reader.fill = np.asarray(colour, np.uint8)

    @property
    def pitch_px0(self) -> float:
        """Level-0 pixels a base pixel."""
        return self.scale.ratio * self.scale.downsample

    def to_px0(self, x_px: int, y_px: int) -> tuple[int, int]:
        """Return the level-0 corner of a base pixel."""
        ratio, downsample = self.scale.ratio, self.scale.downsample
        return round((self.x_level + x_px * ratio) * downsample), round((self.y_level + y_px * ratio) * downsample)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Read a rectangle of a level (in its pixels, inside it) with the ICC profile applied; (h, w, 3) uint8."""
        pixels = self.reader.read(level, x, y, width, height)
        return apply_icc(self.icc, pixels) if self.icc is not None else pixels

    def read_boxes(self, x_px: int, y_px: int, width_px: int, height_px: int) -> tuple[np.ndarray, int]:
        """Read base pixels [x, x + width) x [y, y + height) as pixels whose box of ``factor`` makes one base pixel.

        Returns:
            (height * factor, width * factor, 3) uint8, and the factor: the scale's box, or 1 where resampling has made
            base pixels of them. What lies beyond the edge is ``glass``.

        Raises:
            UnreadableError: a part of it cannot be decoded.
        """
        box = self.scale.box
        if box is None:
            return self._resampled(x_px, y_px, width_px, height_px), 1
        left, top = x_px * box, y_px * box
        width, height = min(width_px * box, self.w_level - left), min(height_px * box, self.h_level - top)
        x, y = self.x_level + left, self.y_level + top
        if (width, height) == (width_px * box, height_px * box):
            return self.read_level(self.scale.level, x, y, width, height), box
        out = np.empty((height_px * box, width_px * box, 3), np.uint8)
        out[:] = self.glass
        if width > 0 and height > 0:
            out[:height, :width] = self.read_level(self.scale.level, x, y, width, height)
        return out, box

    def _resampled(self, x_px: int, y_px: int, width_px: int, height_px: int) -> np.ndarray:
        ratio = self.scale.ratio
        out = np.empty((height_px, width_px, 3), np.uint8)
        out[:] = self.glass
        width, height = min(width_px, self.width_px - x_px), min(height_px, self.height_px - y_px)
        if width <= 0 or height <= 0:
            return out
        x, y = (x_px, x_px + width), (y_px, y_px + height)
        left, right = area_span(*x, ratio, self.w_level)
        top, bottom = area_span(*y, ratio, self.h_level)
        pixels = self.read_level(self.scale.level, self.x_level + left, self.y_level + top, right - left, bottom - top)
        mean = area_resample(pixels, x, y, (ratio, ratio), (left, top))
        out[:height, :width] = (mean + 0.5).astype(np.uint8)
        return out

    def thumbnail(self, pitch_px: float, size: tuple[int, int]) -> np.ndarray:
        """Return the plane at ``pitch_px`` base pixels a thumbnail pixel, (size[1], size[0], 3) uint8, by area.

        Read from the coarsest level that is fine enough, in strips. What lies beyond the edge is white.

        Raises:
            UnreadableError: a strip cannot be decoded.
        """
        wanted_px0 = pitch_px * self.pitch_px0
        level = max(i for i, d in enumerate(self.downsamples) if i == 0 or d <= wanted_px0 * 1.05)
        level_width, level_height = self.level_sizes[level]
        ratio = wanted_px0 / self.downsamples[level]
        x0, y0, w0, h0 = (v / self.downsamples[level] for v in self.bounds_px0)
        left, top = round(x0), round(y0)
        width, height = min(round(w0), level_width - left), min(round(h0), level_height - top)
        columns = min(size[0], int(np.ceil(width / ratio)))
        total_rows = min(size[1], int(np.ceil(height / ratio)))
        out = np.full((size[1], size[0], 3), 255, np.uint8)
        rows_a_strip = max(1, int(STRIP_PX / (max(1, width) * ratio)))
        for start in range(0, total_rows, rows_a_strip):
            stop = min(total_rows, start + rows_a_strip)
            first, last = area_span(start, stop, ratio, height)
            pixels = self.read_level(level, left, top + first, width, last - first)
            mean = area_resample(pixels, (0, columns), (start, stop), (ratio, ratio), (0, first))
            out[start:stop, :columns] = (mean + 0.5).astype(np.uint8)
        return out

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened.

        Raises:
            DataError: size or time differ.
        """
        if readable_stamp(self.path) != self.stamp:
            raise DataError(f"{self.path}: the file changed while it was read; run again when it is at rest")

    def close(self) -> None:
        self.reader.close()


def icc_transform(profile: ImageCms.ImageCmsProfile | None) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB, None where there is none, it changes nothing, or it is damaged.

    Whether it is sRGB already is tried on colours all over the cube, since a profile's name promises nothing.
    """
    if profile is None:
        return None
    try:
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
        moved = np.abs(apply_icc(transform, colours).astype(int) - colours).max()
    except (ImageCms.PyCMSError, ValueError, OSError):
        return None
    return transform if moved > SRGB_TOLERANCE else None


def icc_transform_of(source: openslide.OpenSlide | bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Return ``icc_transform`` of a slide's profile, or of one as files hold it; None if it is damaged."""
    try:
        if isinstance(source, openslide.OpenSlide):
            return icc_transform(source.color_profile)
        return icc_transform(ImageCms.ImageCmsProfile(io.BytesIO(source))) if source else None
    except (ImageCms.PyCMSError, openslide.OpenSlideError, OSError):
        return None


def apply_icc(transform: ImageCms.ImageCmsTransform, pixels: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8 in sRGB."""
    return np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(pixels)), transform))


def read_flat(path: Path) -> tuple[np.ndarray, ImageCms.ImageCmsTransform | None, float | None]:
    """Read a PNG, JPEG, untiled TIFF or OME-TIFF whole: (h, w, 3) uint8, its ICC transform, its OME mpp if it has one.

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


def _read_flat_pil(path: Path) -> tuple[np.ndarray, ImageCms.ImageCmsTransform | None, None]:
    Image.MAX_IMAGE_PIXELS = MAX_FLAT_PX
    with Image.open(path) as image:
        _check_flat_size(path, image.width, image.height)
        transform = icc_transform_of(image.info.get("icc_profile"))
        if image.mode in ("RGBA", "LA", "PA"):
            rgba = image.convert("RGBA")
            canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            image = Image.alpha_composite(canvas, rgba)
        return np.asarray(image.convert("RGB")), transform, None


def _read_flat_tiff(path: Path) -> tuple[np.ndarray, ImageCms.ImageCmsTransform | None, float | None]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        axes, shape = series.axes, series.shape
        sizes = dict(zip(axes, shape))
        _check_flat_size(path, sizes.get("X", 0), sizes.get("Y", 0))
        pixels = series.asarray()
        mpp = _ome_mpp(tiff.ome_metadata) if tiff.is_ome else None
        profile = series.keyframe.iccprofile
    channel = next((axis for axis in "SC" if sizes.get(axis) in (3, 4)), None)
    keep = "YX" + (channel or "")
    pixels = pixels[tuple(slice(None) if axis in keep else 0 for axis in axes)]
    order = [axis for axis in axes if axis in keep]
    pixels = np.transpose(pixels, [order.index(axis) for axis in keep])
    if pixels.dtype != np.uint8:
        raise DataError(f"{path}: {pixels.dtype} pixels, expected 8-bit; convert the image")
    pixels = pixels[..., :3] if channel else np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels), icc_transform_of(profile), mpp


def _ome_mpp(description: str | None) -> float | None:
    import re

    match = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', description or "")
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', description or "")
    if not match or (unit and unit[1] not in ("µm", "um", "μm", "&#181;m")):
        return None
    return float(match[1])


def _check_flat_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_FLAT_PX or width * height == 0:
        raise DataError(
            f"{path}: {width}x{height} px without tiles, expected {MAX_FLAT_PX:,} px at most; make it a tiled TIFF"
        )


__all__ = ["Scale", "Slide", "SlideSpec", "UnreadableError", "choose_scale", "mpp_of"]
