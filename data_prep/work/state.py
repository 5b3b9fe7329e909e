"""What is known of a slide when its turn is over: its samples and scale, or why there are none."""

from dataclasses import asdict, dataclass, field
from typing import Any

from zoomldm.stored import stored_as

DONE, FAILED = "done", "failed"
WORK_VERSION = 1
"""Of a slide's work; raised by hand where the same slide gives other patches or rows, which reads all slides again."""


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
    mpp_of_file: float | None = None

    @property
    def disagreement(self) -> float:
        """Return by which part the scale that was given differs from the file's own; 0 where there is but one."""
        return abs(self.mpp_level0 / self.mpp_of_file - 1) if self.mpp_of_file else 0.0


@dataclass(frozen=True, kw_only=True)
class FailedSlide:
    """A slide that gave nothing; ``by_storage``: its file could not be read, which need not be the slide's fault."""

    slide: str
    patient: str
    path: str
    reason: str
    by_storage: bool = False
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
        icc: what was done with the file's colour profile: applied, none, damaged or off; None in old work.
        damaged_levels: those that the mask could not be made from, since a tile of theirs cannot be decoded.
        focus: median of the tiles', in 1/um (``tissue.focus``); None in old work, and where no tile was encoded.
        soft: part of the tiles that are hardly in focus (below ``tissue.focus.SOFT``).
        folds: part of the tissue that may be folded (``tissue.folds``); None in old work.
        regions_blurred: regions left out because too much of them is below ``min_focus``.
        work_version: ``WORK_VERSION`` that made it.
        told: what decided the work besides file and settings (``told_of``); None in the work of older versions.
        reread_failed: why reading the slide again failed, whose work of before this is.
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
    icc: str | None = None
    damaged_levels: list[int] = field(default_factory=list)
    focus: float | None = None
    soft: float | None = None
    folds: float | None = None
    regions_blurred: int = 0
    work_version: int = 1
    reread_failed: str = ""
    status: str = DONE

    @property
    def num_samples(self) -> int:
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SlideState = DoneSlide | FailedSlide


def state_of(content: Any) -> SlideState:
    """Return the state that ``to_dict`` gave.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    is_failed = isinstance(content, dict) and content.get("status") == FAILED
    return stored_as(FailedSlide if is_failed else DoneSlide, content)
