"""Which magnification the next sample comes from: p(magnification | step).

A curriculum is piecewise constant: `changes` lists the steps at which the probabilities change, so that the loader can
count in closed form how often each magnification was drawn before any step (zoomldm.data.order.sequence).
Arrays have one entry a rung of the ladder, K in all; a magnification without samples has probability 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from zoomldm.errors import ConfigError


class Curriculum(ABC):
    """What every curriculum is.

    Facts known at run time, of which a class takes what it needs: `counts` (training patches a magnification, (K,),
    zero where there is none) and `ladder`.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        if not (self.counts > 0).any():
            raise ConfigError("no magnification has a training sample; look at counts.train in the manifest.json")

    @property
    def changes(self) -> tuple[int, ...]:
        """Steps at which the probabilities change, ascending, the first of them 0."""
        return (0,)

    @abstractmethod
    def weights(self, step: int) -> np.ndarray:
        """Return how much each magnification counts at `step`, (K,), not normalised."""

    def probabilities(self, step: int) -> np.ndarray:
        """Return p(magnification | step), float64 (K,), over the magnifications that have samples."""
        weights = np.where(self.counts > 0, np.asarray(self.weights(step), dtype=np.float64), 0.0)
        total = weights.sum()
        if not total > 0:
            raise ConfigError(f"curriculum: at step {step} every magnification with samples has weight 0")
        return weights / total

    def samples_until(self, step: int, global_batch: int) -> np.ndarray:
        """Return the expected number of samples of each magnification in steps [0, step), float64 (K,)."""
        starts = [s for s in self.changes if s < step]
        lengths = np.diff([*starts, step])
        return global_batch * sum(
            (length * self.probabilities(start) for start, length in zip(starts, lengths)), np.zeros(len(self.counts))
        )


def steps_matched_by_samples(unified: Curriculum, steps: int, rung: int) -> int:
    """Return the steps after which a single run has seen as many samples of `rung` as `unified` in `steps` steps."""
    return max(1, round(float(unified.samples_until(steps, 1)[rung])))
