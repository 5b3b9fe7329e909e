"""The distance of a patch to its own reference."""

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure, jackknife
from zoomldm.evaluation.metrics.base import Compared, Metric


class Paired(Metric):
    """Mean squared distance of each patch to its own reference, in the unit of the Fréchet distance."""

    title = "paired distance"
    caption = (
        "Mean squared distance of each patch to its own reference, in the unit of the distance above. The Fréchet "
        "distance pairs two sets in the best possible way; here the pairs are given."
    )
    section = "pairs"

    def measure(self, compared: Compared) -> Measure | None:
        if compared.pairs is None:
            return None
        members = (compared.pair_members, compared.pair_members)
        return jackknife(distances.paired, compared.vectors, compared.pairs, members)
