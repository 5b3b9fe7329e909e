"""Real patches of other patients."""

from zoomldm.evaluation.bench import Described
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rung_data import RungData


class HeldOut(Row):
    """Patches that no model saw."""

    title = "real, held out"
    meaning = "training patches against patches that no model saw: how far apart real patches of other origin lie"
    colour = "#5f7f9e"

    def described(self, data: RungData) -> Described | None:
        return data.held_out
