"""The floor: real patches against real patches."""

from zoomldm.evaluation.bench import Described, RungData, Vectors
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.rows.base import Row


class Halves(Row):
    """One half of the real training patches against the other."""

    title = "real, other half"
    meaning = "two disjoint halves of the real training patches: the floor at this n"
    colour = "#8b8b93"
    paired_title = "real, an unrelated patch"
    is_paired = True
    expectations = (
        Expectation("halves", "reconstructions", "real halves lie below the autoencoder's reconstructions"),
        Expectation("halves", "oracle", "real halves lie below the trained model"),
    )

    def described(self, data: RungData) -> Described:
        return Described(data.half.vectors)

    def pairs(self, data: RungData) -> Vectors:
        """Return the reference half: patches that have nothing to do with each other."""
        return data.reference
