"""Conditions of a user's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from data_prep.places.coarse import CoarsePicture
from data_prep.places.place import Place
from data_prep.places.source import PlaceSource, Spot, check_number
from data_prep.slides.scale import BOX_TOLERANCE
from data_prep.slides.table import SlideSpec
from zoomldm.errors import ConfigError, DataError
from zoomldm.ladder import Ladder, Rung
from zoomldm.sampling.sources.base import AreaLevel

PNG_SIGNATURE, PNG_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24


class ImageSource(PlaceSource):
    """Conditions of the region in the middle of a picture, or around a pixel of it.

    A picture is read as a slide of one level. All its tiles are encoded: it may be too small to tell its glass. One
    that is coarser than the ladder's base has no tiles to embed and so no conditions, but an area: all of it.

    Args:
        path: of the picture; or of several.
        mpp, magnification: its scale, by either.
        x, y: a pixel of the picture, the same in all.

    Raises:
        ConfigError: no picture or scale is given. DataError: it is not of 8-bit RGB.
    """

    origin = "pictures"
    encode_all = True

    def __init__(
        self,
        *,
        path: str | list[str] | None,
        mpp: float | None,
        magnification: float | None,
        x: float | None,
        y: float | None,
        **shared: Any,
    ) -> None:
        if not path:
            raise ConfigError("source=image needs source.path=PICTURE, and source.mpp= or source.magnification=")
        for key, value in (("mpp", mpp), ("magnification", magnification), ("x", x), ("y", y)):
            check_number(key, value)
        paths = [Path(one).expanduser() for one in (path if isinstance(path, (list, tuple)) else [path])]
        for one in paths:
            check_picture(one)
        super().__init__(**shared)
        scale = scale_of(self.settings.ladder, mpp=mpp, magnification=magnification)
        self._coarse = None
        if scale is not None and scale > self.settings.ladder.base_mpp * (1 + BOX_TOLERANCE):
            self._coarse = CoarsePicture(paths[0], scale, self.settings.ladder)
            return
        self.spots = [(self.opened(SlideSpec(path=one, name=one.stem, patient="", mpp=scale)), x, y) for one in paths]

    @property
    def label(self) -> str:
        return f"{self.name}-{self._coarse.path.stem}" if self._coarse else super().label

    def why_not(self, rung: Rung) -> str | None:
        return self._coarse.why_not() if self._coarse else super().why_not(rung)

    def own_rung(self) -> Rung | None:
        return self._coarse.rung() if self._coarse else None

    def extent(self, rung: Rung) -> tuple[int, int]:
        if self._coarse:
            return self._coarse.extent()
        places, x, y = self.spots[0]
        if x is not None or y is not None:
            return 1, 1
        return max(1, places.slide.height_px // rung.region_px), max(1, places.slide.width_px // rung.region_px)

    def area(self, rungs: Sequence[Rung], rows: int, columns: int) -> list[AreaLevel]:
        return self._coarse.area(rungs, rows, columns) if self._coarse else super().area(rungs, rows, columns)

    def place(self, spot: Spot, rung: Rung) -> Place:
        places, x, y = spot
        width_px0, height_px0 = places.slide.level_sizes[0]
        x_px0, y_px0 = (whole / 2 if at is None else float(at) for at, whole in ((x, width_px0), (y, height_px0)))
        return places.around(rung, x_px0, y_px0, inside=True)

    def refusal(self, spot: Spot, rung: Rung) -> str | None:
        places, x, y = spot
        slide, path = places.slide, places.spec.path
        if min(slide.width_px, slide.height_px) < rung.region_px:
            return (
                f"{path}: {slide.width_px} x {slide.height_px} px of {slide.scale.mpp_true:g} mpp, and a region of "
                f"{rung.label} has {rung.region_px} x {rung.region_px}; choose a higher magnification or give more"
            )
        if not places.holds(float(x or 0), float(y or 0)):
            width_px0, height_px0 = slide.level_sizes[0]
            return f"{path}: source.x={x} source.y={y} lies off the picture of {width_px0} x {height_px0} px"
        return None


def scale_of(ladder: Ladder, *, mpp: float | None, magnification: float | None) -> float | None:
    """Return the micrometres a pixel that a user gave; None leaves it to the file.

    Raises:
        ConfigError: both are given, or it is no scale.
    """
    if mpp is not None and magnification is not None:
        raise ConfigError("source.mpp= and source.magnification= say the same; give one of them")
    if magnification is None:
        return mpp
    if not magnification > 0:
        raise ConfigError(f"source.magnification={magnification}: expected a number above 0")
    return ladder.base_mpp * ladder.base_magnification / magnification


MODES = {"L": "grey levels", "P": "a palette", "1": "black and white alone", "CMYK": "CMYK colours"}
"""Pillow's names, in words."""


def check_picture(path: Path) -> None:
    """Refuse what is not a picture of 8-bit RGB.

    Raises:
        DataError: says what it is.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(PNG_DEPTH_AT + 1)
        with Image.open(path) as image:
            mode, has_alpha = image.mode, "A" in image.getbands() or "transparency" in image.info
    except Exception as error:  # decoders raise many types on what is none of theirs
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is none that can be decoded"
        raise DataError(f"{path}: cannot be read as a picture ({reason}); give a PNG, JPEG or TIFF") from error
    is_deep = head.startswith(PNG_SIGNATURE) and head[PNG_DEPTH_AT] == 16
    found = "transparency (alpha)" if has_alpha else "16 bits a channel" if is_deep or mode.startswith("I;16") else mode
    if found != "RGB":
        raise DataError(f"{path}: has {MODES.get(found, found)}, expected a picture of 8-bit RGB; convert it first")
