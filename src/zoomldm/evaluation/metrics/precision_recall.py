"""Precision and recall of a set of patches."""

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.metrics.base import Compared, Metric


class PrecisionRecall(Metric):
    """How much of the row looks real, and how much of what is real the row has."""

    title = "precision / recall"
    caption = "share of the row within the reals' 3-neighbour balls / share of reals within the row's"
    template = "{precision:.2f} / {recall:.2f}"

    def measure(self, compared: Compared) -> dict[str, Measure]:
        precision, recall = distances.precision_recall(compared.vectors, compared.reference)
        return {"precision": Measure(precision), "recall": Measure(recall)}
