"""A slide as a plane of base pixels: where they lie in the file, and what is there beyond its edges."""

from collections.abc import Sequence

import numpy as np
from PIL import ImageCms

from data_prep.slides.colour import apply_icc
from data_prep.slides.files import readable_stamp
from data_prep.slides.readers.base import WHITE, UnreadableError, open_reader
from data_prep.slides.resample import area_resample, area_span
from data_prep.slides.scale import choose_scale, mpp_of
from data_prep.slides.table import SlideSpec
from zoomldm.config import Option
from zoomldm.errors import DataError

STRIP_PX = 1 << 22  # of a level, read at once for the thumbnail
UNPROVEN = 4  # pixels along a thumbnail pixel, at least, of a level whose pixels may be picked instead of averaged


class Slide:
    """An open slide: base pixels (the ladder's 20x), its scale and its edges.

    Base pixel (i, j) covers level-0 pixels from ``x0_px0 + i * pitch_px0`` on. Pixels beyond the edge, and those that
    were not scanned, have the colour ``glass``: white until it is set, once the tissue mask has found it.

    Args:
        base_mpp: micrometres a base pixel, about (``scale.mpp_true`` has the slide's own).
        readers: ways to open the file; the first that knows its kind is taken.
        use_icc: bring colours to sRGB by the file's profile.

    Raises:
        DataError: cannot be opened, has no usable scale, is coarser than the base.
    """

    def __init__(self, spec: SlideSpec, base_mpp: float, readers: Sequence[Option], *, use_icc: bool = True) -> None:
        self.use_icc = use_icc
        self.damaged_levels: list[int] = []
        self.spec, self.path = spec, spec.path
        self.stamp = readable_stamp(spec.path)
        if self.stamp[0] == 0:
            raise DataError(f"{self.path}: an empty file (0 bytes); copy the slide again")
        self.reader = open_reader(self.path, readers)
        mpp = mpp_of(self.reader.properties, self.path, given=spec.mpp, spare=spec.spare_mpp)
        proven = self.downsamples[: self.reader.num_proven]
        self.scale = choose_scale(mpp.value, proven, base_mpp, source=mpp.source, path=self.path)
        self.mpp_of_file = mpp.of_file
        self._set_bounds()

    def _set_bounds(self) -> None:
        """Set the plane's place in level 0, by the file's bounds (openslide.bounds-*) if it has them, and its size."""
        names = ("x", "y", "width", "height")
        values = [self.reader.properties.get(f"openslide.bounds-{name}") for name in names]
        whole = (0, 0, *self.level_sizes[0])
        self.bounds_px0 = tuple(int(v) for v in values) if all(v is not None for v in values) else whole
        self.x_level, self.y_level, self.w_level, self.h_level = self._bounds_at(self.scale.level)
        self.width_px = int(np.ceil(self.w_level / self.scale.ratio - 1e-6))
        self.height_px = int(np.ceil(self.h_level / self.scale.ratio - 1e-6))

    def _bounds_at(self, level: int) -> tuple[int, int, int, int]:
        """Return the plane's left, top, width and height in a level's pixels."""
        left, top, width, height = (round(px0 / self.downsamples[level]) for px0 in self.bounds_px0)
        level_width, level_height = self.level_sizes[level]
        return left, top, min(width, level_width - left), min(height, level_height - top)

    @property
    def vendor(self) -> str:
        return self.reader.vendor

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        return self.reader.level_sizes

    @property
    def downsamples(self) -> list[float]:
        return self.reader.downsamples

    @property
    def icc(self) -> ImageCms.ImageCmsTransform | None:
        return self.reader.colour.transform if self.use_icc else None

    @property
    def icc_status(self) -> str:
        """What is done with the file's colour profile: applied, none (there is nothing to do), damaged, off."""
        return self.reader.colour.status if self.use_icc else "off"

    @property
    def glass(self) -> np.ndarray:
        return self.reader.glass

    @glass.setter
    def glass(self, colour: np.ndarray) -> None:
        self.reader.glass = np.asarray(colour, np.uint8)

    @property
    def pitch_px0(self) -> float:
        """Level-0 pixels a base pixel."""
        return self.scale.ratio * self.scale.downsample

    def to_px0(self, x_px: int, y_px: int) -> tuple[int, int]:
        """Return the level-0 corner of a base pixel."""
        ratio, downsample = self.scale.ratio, self.scale.downsample
        return round((self.x_level + x_px * ratio) * downsample), round((self.y_level + y_px * ratio) * downsample)

    def to_px(self, x_px0: float, y_px0: float) -> tuple[float, float]:
        """Return where in base pixels a level-0 pixel lies."""
        ratio, downsample = self.scale.ratio, self.scale.downsample
        return (x_px0 / downsample - self.x_level) / ratio, (y_px0 / downsample - self.y_level) / ratio

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

        Read from the coarsest level that is fine enough; where a tile of that is damaged, from the next finer one, and
        the level is noted in ``damaged_levels``. What lies beyond the edge is white.

        Raises:
            UnreadableError: level 0 cannot be decoded either.
        """
        wanted_px0 = pitch_px * self.pitch_px0
        proven = self.reader.num_proven or len(self.downsamples)
        most = [wanted_px0 * (1.05 if i < proven else 1 / UNPROVEN) for i in range(len(self.downsamples))]
        level = max(i for i, d in enumerate(self.downsamples) if i == 0 or d <= most[i])
        while level:
            try:
                return self._thumbnail_of(level, wanted_px0, size)
            except UnreadableError:
                self.damaged_levels.append(level)
                level -= 1
        return self._thumbnail_of(0, wanted_px0, size)

    def _thumbnail_of(self, level: int, wanted_px0: float, size: tuple[int, int]) -> np.ndarray:
        """Return a thumbnail of a level's pixels, read in strips, ``wanted_px0`` level-0 pixels a thumbnail pixel."""
        ratio = wanted_px0 / self.downsamples[level]
        left, top, width, height = self._bounds_at(level)
        columns = min(size[0], int(np.ceil(width / ratio)))
        total_rows = min(size[1], int(np.ceil(height / ratio)))
        out = np.full((size[1], size[0], 3), WHITE, np.uint8)
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
