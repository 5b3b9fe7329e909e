"""Whether a patch has the embedding that it was made from."""

import numpy as np

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.metrics.base import Compared, Metric


class ConditioningFidelity(Metric):
    """Cosine of the conditioning encoder's embeddings of a patch and of its reference, at the highest magnification."""

    title = "conditioning fidelity"
    caption = "Cosine of the conditioning encoder's embeddings of a patch and of its reference, mean ± standard error."
    section = "pairs"
    of_judge = True
    needs_embeddings = True

    def measure(self, compared: Compared) -> Measure | None:
        if compared.embeddings is None or compared.paired_embeddings is None:
            return None
        cosines = distances.cosine(compared.embeddings, compared.paired_embeddings)
        return Measure(float(cosines.mean()), float(cosines.std(ddof=1) / np.sqrt(len(cosines))))
