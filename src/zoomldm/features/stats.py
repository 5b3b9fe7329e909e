"""``stats`` as a descriptor: the encoder's 24 numbers, in units of real tissue."""

import numpy as np

from zoomldm.encoder.base import Encoder
from zoomldm.encoder.stats import FEATURE_NAMES, StatsEncoder
from zoomldm.features.encoders import EncoderDescriptor

# name: (centre, spread), rounded over real H&E tissue patches (CMU-1, 20x to 1.25x, 32 px). Used where the data set
# brings no statistics of its own, that is, where another encoder conditions the model.
FIXED_STATISTICS: dict[str, tuple[float, float]] = {
    "mean_h": (0.21, 0.14),
    "mean_e": (0.09, 0.05),
    "mean_r": (0.19, 0.07),
    "std_h": (0.21, 0.1),
    "std_e": (0.09, 0.04),
    "std_r": (0.11, 0.03),
    "skew_h": (0.25, 0.15),
    "correlation_he": (0.07, 0.3),
    "gradient_h_1": (0.16, 0.08),
    "gradient_h_2": (0.15, 0.08),
    "gradient_h_4": (0.14, 0.08),
    "gradient_e_1": (0.08, 0.05),
    "gradient_e_2": (0.065, 0.035),
    "gradient_e_4": (0.055, 0.025),
    "fraction_nucleus": (0.32, 0.25),
    "fraction_dense_nucleus": (0.12, 0.13),
    "fraction_glass": (0.22, 0.22),
    "fraction_dense_eosin": (0.01, 0.015),
    "local_variance_h": (0.17, 0.09),
    "local_variance_e": (0.08, 0.04),
    "left_right_h": (0.0, 0.13),
    "top_bottom_h": (0.0, 0.09),
    "left_right_e": (0.0, 0.05),
    "top_bottom_e": (0.0, 0.035),
}


class StatsDescriptor(EncoderDescriptor):
    """Describe patches by the encoder ``stats``, standardised by the data set or, without one, by fixed statistics.

    Args:
        encoder: that of the data set; another one than ``stats`` tells nothing here.
    """

    def __init__(self, encoder: Encoder | None = None) -> None:
        if not isinstance(encoder, StatsEncoder) or not encoder.fitted:
            centre, spread = np.array([FIXED_STATISTICS[name] for name in FEATURE_NAMES]).T
            encoder = StatsEncoder().fit(centre, spread)
        super().__init__(encoder)
