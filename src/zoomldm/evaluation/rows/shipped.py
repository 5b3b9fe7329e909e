"""What hours of training give."""

from typing import Any

from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData
from zoomldm.sampling.generator import PatchGenerator


class Shipped(SyntheticRow):
    """Patches of the model that ships with the package, from the same conditions: a training of hours beside one."""

    title = "the model that ships"
    meaning = "synthetic, by the model that ships (model=reference), from the same conditions: what hours give"
    colour = "#2b6a99"

    def why_not(self, bench: Bench) -> str | None:
        return bench.shipped.why_not if bench.shipped else "the model that ships was not looked for"

    def depends_on(self, bench: Bench) -> dict[str, Any]:
        return {**super().depends_on(bench), "shipped": dict(bench.shipped.identity)}

    def generator(self, data: RungData) -> PatchGenerator:
        return data.bench.shipped.generator
