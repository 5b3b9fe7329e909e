"""`uniform`: every magnification as often as another."""

from __future__ import annotations

import numpy as np

from zoomldm.curriculum.base import Curriculum


class Uniform(Curriculum):
    """Every magnification as often as another (each image of a batch draws its own)."""

    def weights(self, step: int) -> np.ndarray:
        return np.ones(len(self.counts))
