"""The same model and conditions, sampled in another way than the rest of the evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zoomldm.config import Option
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData
from zoomldm.sampling.generator import PatchGenerator


class Resampled(SyntheticRow):
    """Oracle conditions under other guidance, steps or solver: one point of a curve.

    Args:
        title, colour: of its line.
        steps, guidance_scale, solver: None as the evaluation has them.
    """

    meaning = "synthetic, oracle conditions, sampled as its name says"
    shows_examples = False

    def __init__(
        self,
        *,
        name: str,
        title: str,
        colour: str,
        steps: int | None,
        guidance_scale: float | None,
        solver: Option | None,
    ) -> None:
        super().__init__(name=name)
        self.title, self.colour = title, colour
        self.steps, self.guidance_scale = steps, guidance_scale
        self.solver = None if solver is None else solver.make(Solver)

    def depends_on(self, bench: Bench) -> dict[str, Any]:
        solver = None if self.solver is None else repr(self.solver)
        return {"steps": self.steps, "guidance_scale": self.guidance_scale, "solver": solver}

    def generator(self, data: RungData) -> PatchGenerator:
        usual = data.bench.generator
        sampling = replace(
            usual.sampling,
            solver=self.solver or usual.sampling.solver,
            steps=self.steps or usual.sampling.steps,
            guidance_scale=self.guidance_scale or usual.sampling.guidance_scale,
        )
        return usual.of(usual.model, sampling)
