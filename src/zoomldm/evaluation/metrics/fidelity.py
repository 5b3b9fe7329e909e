"""Whether a patch has the embedding that it was made from."""

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure, jackknife
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
        members = (compared.pair_members, compared.pair_members)
        return jackknife(lambda some, _: float(some.mean()), cosines, cosines, members)
