"""The far end."""

from dataclasses import replace
from typing import Any

from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData
from zoomldm.sampling.generator import PatchGenerator

FEW = {"steps": 5, "guidance_scale": 1.0}
"""Steps at most, and no guidance: with more of either it makes noise, too, at up to twenty times the cost."""


class Untrained(SyntheticRow):
    """Patches of the same network before training, from the same conditions, in few steps and without guidance."""

    title = "untrained model"
    meaning = (
        f"the same network before training, same conditions, at most {FEW['steps']} steps without guidance: the far end"
    )
    colour = "#3a3a3f"
    is_control = True

    def why_not(self, bench: Bench) -> str | None:
        return None if bench.can_be_untrained else "no untrained model was given"

    def depends_on(self, bench: Bench) -> dict[str, Any]:
        return dict(FEW)

    def generator(self, data: RungData) -> PatchGenerator:
        usual = data.bench.untrained
        steps = min(FEW["steps"], usual.sampling.steps)
        return usual.of(usual.model, replace(usual.sampling, **FEW | {"steps": steps}))
