"""The kernel distance."""

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.metrics.base import Compared, Metric


class KernelDistance(Metric):
    """KID's estimator over the descriptor's vectors; without bias, so that small sets may be compared."""

    title = "kernel distance"
    caption = (
        "KID's estimator, without bias, over all patches' vectors, ± one standard error. It judges where there are too "
        "few patches for the Fréchet distance."
    )

    def measure(self, compared: Compared) -> Measure:
        return distances.kid(compared.vectors, compared.reference, compared.members)
