"""`schedule`: stages of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoomldm.curriculum.base import Curriculum
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder


class Schedule(Curriculum):
    """Stages given by the user: each `{from_step, weights: {magnification: weight}}`, constant until the next."""

    def __init__(self, counts: Sequence[int] | np.ndarray, *, ladder: Ladder, stages: Sequence[Mapping]) -> None:
        super().__init__(counts)
        if not stages:
            raise ConfigError("curriculum.stages is empty; expected a list of {from_step: 0, weights: {20: 1, 10: 2}}")
        self.starts, self.table = [], []
        for stage in stages:
            row = np.zeros(len(self.counts))
            for magnification, weight in stage["weights"].items():
                if not weight >= 0:
                    raise ConfigError(f"curriculum.stages: weight of {magnification} is {weight}; expected 0 or more")
                row[ladder.rung_of(magnification).index] = weight
            self.starts.append(int(stage["from_step"]))
            self.table.append(row)
        if self.starts[0] != 0 or any(b <= a for a, b in zip(self.starts, self.starts[1:])):
            raise ConfigError(f"curriculum.stages: from_step is {self.starts}; expected 0 first, then rising steps")
        for start in self.starts:
            self.probabilities(start)

    @property
    def changes(self) -> tuple[int, ...]:
        return tuple(self.starts)

    def weights(self, step: int) -> np.ndarray:
        return self.table[int(np.searchsorted(self.starts, step, side="right")) - 1]
