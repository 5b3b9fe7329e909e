"""Does the model listen to the magnification that it is told?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData


class WrongMagnification(SyntheticRow):
    """Oracle conditions with the right grids, told a magnification that lies half the ladder away."""

    title = "wrong magnification"
    meaning = "synthetic, the right grids, told a magnification that lies half the ladder away"
    colour = "#b98b5a"
    is_control = True
    shows_examples = False
    expectations = (
        Expectation(
            "oracle",
            "wrong_magnification",
            "the right magnification lies below a wrong one, each patch against its own reference",
            paired=True,
        ),
    )

    def why_not(self, bench: Bench) -> str | None:
        if getattr(getattr(bench.generator.model, "conditioner", None), "num_rungs", None):
            return None
        return "the model's conditioner is told no magnification"

    def synthesise(self, data: RungData, conditions: Batch | None, numbers: Sequence[int]) -> np.ndarray:
        generator = self.generator(data)
        num_rungs = generator.model.conditioner.num_rungs
        told = (conditions.rung + num_rungs // 2) % num_rungs
        return generator.from_batch(replace(conditions, rung=told), numbers)
