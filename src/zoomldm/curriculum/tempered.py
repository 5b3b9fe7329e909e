"""`tempered`: between uniform and proportional to the number of patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoomldm.curriculum.base import Curriculum
from zoomldm.errors import ConfigError


class Tempered(Curriculum):
    """p ∝ counts^temperature: 0 is uniform, 1 proportional to the number of patches."""

    def __init__(self, counts: Sequence[int] | np.ndarray, *, temperature: float) -> None:
        super().__init__(counts)
        if not 0 <= temperature <= 1:
            raise ConfigError(f"curriculum.temperature={temperature}: expected a number from 0 (uniform) to 1")
        self.temperature = temperature

    def weights(self, step: int) -> np.ndarray:
        return np.maximum(self.counts, 1) ** float(self.temperature)
