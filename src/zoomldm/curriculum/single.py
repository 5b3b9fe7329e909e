"""One magnification alone: what ``training=single`` makes of any curriculum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoomldm.curriculum.base import Curriculum
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder


class Single(Curriculum):
    """One magnification only: the standalone baselines of the paper's Table 1.

    Raises ConfigError where it is not on the ladder or has no samples; the message lists those that have.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, *, ladder: Ladder, magnification: float) -> None:
        super().__init__(counts)
        self.rung = ladder.rung_of(magnification).index
        if self.counts[self.rung] == 0:
            available = ", ".join(f"{ladder[int(k)].magnification:g}" for k in np.flatnonzero(self.counts))
            raise ConfigError(
                f"training.magnification={magnification:g}: no training sample; those with samples: {available}"
            )

    def weights(self, step: int) -> np.ndarray:
        return np.eye(len(self.counts))[self.rung]
