"""`coarse_to_fine`: low magnifications first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoomldm.curriculum.base import Curriculum
from zoomldm.errors import ConfigError


class CoarseToFine(Curriculum):
    """Begin with low magnifications and end uniform: p ∝ exp(tilt(step)·k/(K-1)), tilt falling from `tilt` to 0.

    The tilt falls linearly over the first `fraction` of `steps`, in `num_stages` stages of constant probabilities.
    """

    direction = 1.0

    def __init__(
        self, counts: Sequence[int] | np.ndarray, *, steps: int, fraction: float, tilt: float, num_stages: int
    ) -> None:
        super().__init__(counts)
        if not 0 < fraction <= 1 or num_stages < 1 or steps < 1:
            raise ConfigError(
                f"curriculum: steps={steps}, fraction={fraction}, num_stages={num_stages}; expected at least one step, "
                "a fraction above 0 and at most 1, and at least one stage"
            )
        self.tilt = tilt
        self.stage_starts = sorted({round(i * fraction * steps / num_stages) for i in range(num_stages + 1)})

    @property
    def changes(self) -> tuple[int, ...]:
        return tuple(self.stage_starts)

    def weights(self, step: int) -> np.ndarray:
        stage = int(np.searchsorted(self.stage_starts, step, side="right")) - 1
        remaining = 1.0 - stage / max(len(self.stage_starts) - 1, 1)
        rung = np.linspace(0.0, 1.0, len(self.counts)) if len(self.counts) > 1 else np.zeros(1)
        return np.exp(self.direction * self.tilt * remaining * rung)
