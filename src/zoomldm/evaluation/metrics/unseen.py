"""Whether patches are like those of patients that no model saw."""

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure, groups_for, jackknife
from zoomldm.evaluation.metrics.base import Compared, Metric


class Unseen(Metric):
    """Distances to held-out patients: what copies its training patches lies near these and far from those."""

    title = "distance to held-out patients"
    caption = (
        "Fréchet and kernel distance to real patches of patients that no model saw, ± one standard error. A row that "
        "is near its training patches and far from these repeats them; real training patches say what is near."
    )
    of_judge = True

    def measure(self, compared: Compared) -> dict[str, Measure] | None:
        vectors, held_out = compared.vectors, compared.held_out
        if held_out is None or held_out is vectors:
            return None
        members = (compared.members[0], compared.held_out_members)
        few = tuple(group % groups_for(vectors.shape[-1]) for group in members)
        return {
            "frechet": jackknife(distances.frechet, vectors, held_out, few),
            "kid": distances.kid(vectors, held_out, members),
        }
