"""How a slide's level-0 pixels become base pixels (the ladder's 20x): which level is read and what is averaged.

The level-0 mpp comes from the file, else its objective power, else ``slide.mpp`` or the slide table. Of the levels,
the coarsest is taken whose mpp an integer box (1, 2, ...) brings within 10 % of the base mpp; failing that, the
coarsest one finer than the base is resampled by area.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomldm.errors import DataError

MPP_RANGE = (0.05, 20.0)
BOX_TOLERANCE = 0.10
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


def is_sane(mpp: float | None) -> bool:
    """Say whether micrometres a pixel are those of a microscope's scan."""
    return mpp is not None and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]


def mpp_of(properties: Mapping[str, str], given: float | None, path: Path) -> tuple[float, str]:
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

    for level in reversed(range(len(downsamples))):
        level_mpp = mpp_level0 * downsamples[level]
        box = round(base_mpp / level_mpp)
        if box >= 1 and abs(base_mpp / level_mpp / box - 1) <= BOX_TOLERANCE:
            return scale(level, box, float(box), level_mpp * box)
    finer = [level for level, downsample in enumerate(downsamples) if mpp_level0 * downsample < base_mpp]
    if not finer:
        raise DataError(
            f"{path}: scanned at {mpp_level0:.4g} mpp, coarser than the ladder's {base_mpp:g}; leave the slide out or "
            "choose a ladder with a larger data.ladder.base_mpp"
        )
    level = finer[-1]
    return scale(level, None, base_mpp / (mpp_level0 * downsamples[level]), base_mpp)
