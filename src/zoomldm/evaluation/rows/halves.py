"""The floor: real patches against real patches."""

from dataclasses import replace

from zoomldm.evaluation.bench import Described
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rung_data import RungData


class Halves(Row):
    """One half of the real training patches against the other."""

    title = "real, other half"
    meaning = "two disjoint sets of real training patches: the floor at this n"
    colour = "#8b8b93"
    paired_title = "real, an unrelated patch"
    is_paired = True
    expectations = (
        Expectation("halves", "reconstructions", "real halves lie below the autoencoder's reconstructions"),
        Expectation("halves", "oracle", "real halves lie below the trained model"),
    )

    def described(self, data: RungData) -> Described | None:
        if data.drawn.num_shared:
            return None
        return replace(data.half, embeddings=None)

    def pairs(self, data: RungData) -> Described:
        """Return the reference half: patches that have nothing to do with each other."""
        return data.reference
