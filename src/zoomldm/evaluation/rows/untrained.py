"""The far end."""

from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData
from zoomldm.sampling.generator import PatchGenerator


class Untrained(SyntheticRow):
    """Patches of the same network before training, from the same conditions."""

    title = "untrained model"
    meaning = "the same network before training, same conditions: the far end"
    colour = "#3a3a3f"
    is_control = True

    def why_not(self, bench: Bench) -> str | None:
        return None if bench.can_be_untrained else "no untrained model was given"

    def generator(self, data: RungData) -> PatchGenerator:
        return data.bench.untrained
