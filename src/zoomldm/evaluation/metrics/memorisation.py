"""Whether synthetic patches repeat training patches."""

from dataclasses import asdict

from zoomldm.evaluation import distances
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.metrics.base import Compared, Metric


class Memorisation(Metric):
    """How near synthetic patches come to training patches, beside how near held-out reals come."""

    title = "nearest training patch"
    caption = (
        "Median distance to the nearest training patch, synthetic / held-out real; in brackets the share of synthetic "
        "patches nearer than 95 of 100 held-out ones (5 % is what real patches give) and n, the training patches that "
        "were searched: all of a magnification that has few, else those that were drawn."
    )
    template = "{median:.3g} / {held_out_median:.3g} ({closer_share:.0%}; n {num_training:,.0f})"
    of_judge = True

    def measure(self, compared: Compared) -> dict[str, Measure] | None:
        if not compared.row.is_synthetic or compared.row.is_control or compared.held_out is None:
            return None
        found = distances.memorisation(compared.vectors, compared.training, compared.held_out)
        return {name: Measure(value) for name, value in asdict(found).items()}
