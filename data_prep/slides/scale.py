"""How a slide's level-0 pixels become base pixels (the ladder's 20x): which level is read and what is averaged.

The level-0 mpp is the slide table's, else the file's, else 10 / its objective power, else ``slide.mpp``. Of the levels,
those count whose mpp an integer box (1, 2, ...) brings within 10 % of the base mpp: the one that comes nearest, and of
those within 1 % of it the coarsest, since downsamples are often rounded. Failing that, the coarsest level that is finer
than the base is resampled by area.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomldm.errors import DataError

MPP_RANGE = (0.05, 20.0)
BOX_TOLERANCE, AS_NEAR = 0.10, 0.01
GIVEN, SPARE = "given mpp", "slide.mpp"  # sources that are not the file
OBJECTIVE_MPP = 10.0  # mpp = 10 / objective power: 20x is 0.5, 40x 0.25


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How base pixels are made.

    Attributes:
        level: level of the file that is read; ``downsample`` its level-0 pixels a pixel.
        box: integer box from the level to the base, or None where ``ratio`` level pixels are resampled into one.
        mpp_level0, mpp_true: micrometres a pixel of level 0, and a base pixel.
        source: where ``mpp_level0`` comes from, in words.
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
        """How base pixels are made of the level's, in words."""
        return "resampled" if self.box is None else "as it is" if self.box == 1 else f"box of {self.box}"


class ScaleError(DataError):
    """Report a slide without a usable scale; ``found`` is what it has instead, in words."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path}: {found}; give one with slide.mpp=0.5 or an mpp column in the slide table")
        self.found = found


def is_sane(mpp: float | None) -> bool:
    """Say whether micrometres a pixel are those of a microscope's scan."""
    return mpp is not None and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]


@dataclass(frozen=True, kw_only=True)
class Mpp:
    """Level-0 micrometres a pixel, where the number comes from, and what the file says of itself."""

    value: float
    source: str
    of_file: float | None = None


def mpp_of(properties: Mapping[str, str], path: Path, *, given: float | None, spare: float | None = None) -> Mpp:
    """Return a slide's scale.

    Args:
        given: by the slide table; it wins over the file.
        spare: for files that do not say theirs.

    Raises:
        ScaleError: none in the file and none given, or nonsense.
    """
    of_file, source, seen = _mpp_of_file(properties)
    if given is not None and is_sane(given):
        return Mpp(value=float(given), source=GIVEN, of_file=of_file)
    seen += [f"given mpp {given:g}"] if given is not None else []
    if of_file is not None and given is None:
        return Mpp(value=of_file, source=source, of_file=of_file)
    if given is None and spare is not None:
        if is_sane(spare):
            return Mpp(value=float(spare), source=SPARE)
        seen.append(f"slide.mpp {spare:g}")
    found = f"has {' and '.join(seen)}, expected {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g} mpp" if seen else "has no scale"
    raise ScaleError(path, found)


def _mpp_of_file(properties: Mapping[str, str]) -> tuple[float | None, str, list[str]]:
    """Return the file's scale, where in the file it stands, and in words what stands there and makes no sense."""

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
            return mpp, "mpp of the file", seen
        seen.append(f"mpp {mpp_x:g} x {mpp_y or mpp_x:g}")
    power = number("openslide.objective-power")
    if power:
        if is_sane(OBJECTIVE_MPP / power):
            return OBJECTIVE_MPP / power, "objective power of the file", seen
        seen.append(f"objective power {power:g}")
    return None, "", seen


def choose_scale(mpp_level0: float, downsamples: Sequence[float], base_mpp: float, *, source: str, path: Path) -> Scale:
    """Choose level and method for a base mpp.

    Args:
        downsamples: level-0 pixels a pixel of each level.
        source: where ``mpp_level0`` comes from, which the scale remembers.
        path: the slide, for the message.

    Raises:
        DataError: the slide is coarser than the base.
    """

    def scale(level: int, box: int | None, ratio: float, mpp_true: float) -> Scale:
        return Scale(
            level=level,
            downsample=downsamples[level],
            box=box,
            ratio=ratio,
            mpp_level0=mpp_level0,
            mpp_true=mpp_true,
            source=source,
        )

    ratios = [base_mpp / (mpp_level0 * downsample) for downsample in downsamples]
    off = {i: abs(ratio / round(ratio) - 1) for i, ratio in enumerate(ratios) if round(ratio) >= 1}
    nearest = min(off.values(), default=1.0)
    if nearest <= BOX_TOLERANCE:
        level = max(i for i, by in off.items() if by <= min(nearest + AS_NEAR, BOX_TOLERANCE))
        box = round(ratios[level])
        return scale(level, box, float(box), mpp_level0 * downsamples[level] * box)
    finer = [level for level, downsample in enumerate(downsamples) if mpp_level0 * downsample < base_mpp]
    if not finer:
        raise DataError(
            f"{path}: scanned at {mpp_level0:.4g} mpp, coarser than the ladder's {base_mpp:g}; leave the slide out or "
            "choose a ladder with a larger data.ladder.base_mpp"
        )
    return scale(finer[-1], None, ratios[finer[-1]], base_mpp)
