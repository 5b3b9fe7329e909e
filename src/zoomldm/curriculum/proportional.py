"""`proportional`: every patch of the data set as often as another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoomldm.curriculum.tempered import Tempered


class Proportional(Tempered):
    """p ∝ counts: every patch of the data set as often as another."""

    def __init__(self, counts: Sequence[int] | np.ndarray) -> None:
        super().__init__(counts, temperature=1.0)
