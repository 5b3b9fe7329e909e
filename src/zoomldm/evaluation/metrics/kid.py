"""The kernel distance."""

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.metrics.base import Compared, Metric


class KernelDistance(Metric):
    """KID's estimator over the descriptor's vectors; unbiased, so small sets may be compared."""

    title = "kernel distance"
    caption = "KID's estimator over the descriptor's vectors."

    def measure(self, compared: Compared) -> Measure:
        return distances.kid(compared.vectors, compared.reference)
