"""What the page may be asked for, and its limits. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zoomldm.errors import ConfigError, DataError, near_match
from zoomldm.ladder import Ladder

LAST_SEED = (1 << 32) - 1
FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg")}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for at most (conf/app.yaml).

    Attributes:
        n: patches.
        sample: number of a sample of the shards; those before it are read as well.
        upload_mb: of an uploaded file, 10^6 bytes; megapixels: of the picture in it.
        kept: answers whose files stay in the page's folder.
    """

    n: int
    steps: int
    guidance_scale: float
    sample: int
    upload_mb: float
    megapixels: float
    kept: int

    def __post_init__(self) -> None:
        for name in ("n", "steps", "kept", "guidance_scale", "upload_mb", "megapixels"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"limits.{name}={getattr(self, name)}: expected a number above 0")
        if self.sample < 0:
            raise ConfigError(f"limits.sample={self.sample}: expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was chosen on the page.

    Attributes:
        guidance_scale: None as the run's configuration says, which may differ by magnification.
        sample: which of the shards' samples, in the order that the seed draws; of source=oracle alone.
        picture, mpp: an uploaded file and its micrometres a pixel; of source=image alone.
        slide, x_px0, y_px0: name of a slide and the level-0 pixel that was clicked on; of source=slide alone.
    """

    source: str
    magnification: float | str
    guidance_scale: float | None
    steps: int
    solver: str
    seed: int
    n: int = 1
    sample: int = 0
    picture: Path | None = None
    mpp: float | None = None
    slide: str | None = None
    x_px0: float | None = None
    y_px0: float | None = None


def check_request(
    request: Request, limits: Limits, *, ladder: Ladder, sources: Iterable[str], solvers: Iterable[str]
) -> None:
    """Refuse what is not on offer or above the limits.

    Raises:
        ConfigError: says what was asked for and what may be.
    """
    for name, value, known in (("source", request.source, [*sources]), ("solver", request.solver, [*solvers])):
        if value not in known:
            raise ConfigError(f"{name}={value}:{near_match(str(value), known)} expected one of {', '.join(known)}")
    ladder.rung_of(request.magnification)
    for name, least, most in (
        ("n", 1, limits.n),
        ("steps", 1, limits.steps),
        ("sample", 0, limits.sample),
        ("seed", 0, LAST_SEED),
    ):
        value = getattr(request, name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name}={value}: expected a whole number from {least} to {most}")
    scale = request.guidance_scale
    if scale is not None and (not isinstance(scale, (int, float)) or not 0 < scale <= limits.guidance_scale):
        raise ConfigError(f"guidance={scale}: expected a number above 0, at most {limits.guidance_scale:g}")
    if request.source == "image":
        check_upload(request.picture, limits)
        if request.mpp is None or not (math.isfinite(request.mpp) and request.mpp > 0):
            raise ConfigError(f"scale={request.mpp}: expected the picture's micrometres a pixel, a number above 0")
    if request.source == "slide" and (request.slide is None or request.x_px0 is None or request.y_px0 is None):
        raise ConfigError("no place was chosen: choose a slide and click on its overview")


def check_upload(path: Path | None, limits: Limits) -> None:
    """Refuse an uploaded file that does not decode as a picture, or is too large.

    Raises:
        ConfigError: there is none. DataError: says what is wrong with it.
    """
    if path is None:
        raise ConfigError("no picture was uploaded: give a PNG or JPEG")
    size_mb = path.stat().st_size / 1e6
    if size_mb > limits.upload_mb:
        raise DataError(f"{path.name}: {size_mb:.1f} MB, expected {limits.upload_mb:g} MB or less")
    _check_pixels(path, limits)


def _check_pixels(path: Path, limits: Limits) -> None:
    from PIL import Image

    try:
        with Image.open(path, formats=[*FORMATS]) as image:
            width, height = image.size
            is_large = width * height > limits.megapixels * 1e6
            if not is_large:
                image.load()
            named = FORMATS[image.format or ""]
    except Exception as error:  # decoders raise many types on what is none of theirs
        raise DataError(f"{path.name}: does not decode as a picture; give a PNG or JPEG") from error
    if is_large:
        raise DataError(f"{path.name}: {width} x {height} px, expected {limits.megapixels:g} million pixels or less")
    if path.suffix.lower() not in named:
        raise DataError(f"{path.name}: holds another format than its name says; call it {path.stem}{named[0]}")
