"""What FiLM contributes to a model that was trained with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoomldm.cond.film import FiLMConditioner
from zoomldm.data.batch import Batch
from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData


class Untold(SyntheticRow):
    """Oracle conditions of a trained model whose FiLM layers get zeros in place of the magnification's embedding."""

    title = "magnification removed"
    meaning = "synthetic, the right grids, without the magnification's embedding in FiLM"
    colour = "#7d6b91"
    is_control = True
    shows_examples = False
    expectations = (
        Expectation(
            "oracle",
            "untold",
            "the model told the magnification lies below the same one not told, each patch against its own reference",
            paired=True,
        ),
    )

    def why_not(self, bench: Bench) -> str | None:
        if isinstance(getattr(bench.generator.model, "conditioner", None), FiLMConditioner):
            return None
        return "the model's conditioner has no FiLM layers (cond=film has)"

    def synthesise(self, data: RungData, conditions: Batch | None, numbers: Sequence[int]) -> np.ndarray:
        generator = self.generator(data)
        with generator.model.conditioner.untold():
            tokens = generator.tokens(conditions)
        return generator.from_tokens(tokens, numbers, data.rung.index)
