"""The two areas of a slide that serves both splits, because no other patient is there to be held out."""

from dataclasses import dataclass

import numpy as np

from zoomldm.data.schema import TEST, TRAIN
from zoomldm.ladder import Ladder


@dataclass(frozen=True)
class Area:
    """Where a slide is cut in two.

    Attributes:
        axis: across which it is cut, 0 y or 1 x.
        cut: the first tile of test's part along it; those before are train's.
    """

    axis: int
    cut: int

    def split_of(self, y: int, x: int, side: int) -> str | None:
        """Return the split of the region of ``side`` tiles at a corner, None where it lies across the cut."""
        first = (y, x)[self.axis]
        return TRAIN if first + side <= self.cut else TEST if first >= self.cut else None


def find_area(fraction: np.ndarray, ladder: Ladder, test_fraction: float) -> Area:
    """Cut a slide across its longer side so that about ``test_fraction`` of its tissue comes after the cut.

    The cut is moved, where it must be, to leave room on both sides for the largest region that fits twice.

    Args:
        fraction: (tiles_y, tiles_x) tissue.
    """
    axis = int(fraction.shape[1] > fraction.shape[0])
    length = fraction.shape[axis]
    profile = np.cumsum(fraction.sum(1 - axis, dtype=np.float64))
    cut = int(np.searchsorted(profile, (1 - test_fraction) * profile[-1])) + 1
    room = max((rung.grid_side for rung in ladder.rungs if 2 * rung.grid_side <= length), default=0)
    return Area(axis, int(np.clip(cut, room, length - room)))
