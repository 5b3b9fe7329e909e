"""What is known of a slide when its turn is over: its samples and scale, or why there are none."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.slides.table import SlideSpec
from zoomldm.files import sha256_of

DONE, FAILED = "done", "failed"
GIVEN_MPP = "given mpp"  # the source of a scale that the file does not say


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """The slide's file as it was read."""

    bytes: int
    mtime_ns: int
    quick_hash: str


@dataclass(frozen=True, kw_only=True)
class ScaleFacts:
    """How base pixels were made; ``pitch_px0`` level-0 pixels a base pixel, ``origin_level`` x, y in the level read."""

    mpp_level0: float
    mpp_true: float
    source: str
    method: str
    level: int
    pitch_px0: float
    origin_level: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class FailedSlide:
    """A slide that gave nothing."""

    slide: str
    patient: str
    path: str
    reason: str
    status: str = FAILED

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DoneSlide:
    """A slide whose work is whole; it may hold no sample, which ``reason`` says then.

    Attributes:
        size_px: width and height in base pixels.
        tissue, pen: parts of the slide.
        glass: its colour, RGB.
        area: ``axis`` and ``cut`` of the held-out area (``fold.regions.Area``).
        by_area: the slide was read to serve both splits.
        counts: samples by magnification.
        unreadable_px0: level-0 corners of the tiles that no reader could decode, the first fifty.
        regions_skipped: regions left out because of such tiles.
        decodes: native tiles, and how often they were decoded; None through OpenSlide.
        told: what decided the work besides file and settings (``told_of``); None in the work of older versions.
    """

    slide: str
    patient: str
    path: str
    reason: str
    file: FileFacts
    format: str
    scale: ScaleFacts
    size_px: tuple[int, int]
    tissue: float
    pen: float
    glass: list[int]
    area: dict[str, int]
    by_area: bool
    counts: dict[str, int]
    num_tiles_encoded: int
    encoder: dict[str, Any]
    unreadable_tiles: int
    unreadable_px0: list[tuple[int, int]]
    regions_skipped: int
    reader: str
    decodes: dict[str, int] | None
    elapsed_s: float
    cpu_s: float
    encode_s: float
    told: dict[str, Any] | None = None
    status: str = DONE

    @property
    def num_samples(self) -> int:
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SlideState = DoneSlide | FailedSlide


def state_of(content: dict[str, Any]) -> SlideState:
    """Return the state that ``to_dict`` gave.

    Raises:
        KeyError, TypeError: a field is missing or unknown.
    """
    if content["status"] == FAILED:
        return FailedSlide(**content)
    facts = {"file": FileFacts(**content["file"]), "scale": ScaleFacts(**content["scale"])}
    return DoneSlide(**(content | facts))


def told_of(spec: SlideSpec, *, regions: str | None, scale_source: str) -> dict[str, Any]:
    """Return what decides a slide's work besides its file and the folder's settings; where it changes, read again.

    Args:
        regions: folder of GeoJSON files by slide name.
        scale_source: where the slide's scale came from; a given one counts only where the file has none.
    """
    told: dict[str, Any] = {}
    if scale_source == GIVEN_MPP and spec.mpp is not None:
        told["mpp"] = spec.mpp
    drawn = Path(regions) / f"{spec.name}.geojson" if regions else None
    if drawn and drawn.is_file():
        told["regions_sha256"] = sha256_of(drawn)
    return told
