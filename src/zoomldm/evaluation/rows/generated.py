"""Novel patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData


class Generated(SyntheticRow):
    """Synthetic patches from conditions that the embedding diffusion model drew; they have no reference."""

    title = "generated conditions"
    meaning = "synthetic, from conditions that the embedding diffusion model drew: novel patches"
    colour = "#6b4fa0"
    is_paired = False
    needs_edm = True
    expectations = (Expectation("generated", "untrained", "generated conditions lie below the untrained model"),)

    def why_not(self, bench: Bench) -> str | None:
        return None if bench.generator.edm is not None else "no embedding diffusion model was given"

    def depends_on(self, bench: Bench) -> dict[str, Any]:
        return {**super().depends_on(bench), "edm": bench.identity.get("edm"), **bench.generator.edm_facts()}

    def read(self, data: RungData, index: int) -> Batch | None:
        return None

    def synthesise(self, data: RungData, conditions: Batch | None, numbers: Sequence[int]) -> np.ndarray:
        return self.generator(data).from_edm(data.rung.index, numbers)
