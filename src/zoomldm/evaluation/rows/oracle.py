"""The trained model, given what it was trained to be given."""

from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.rows.synthetic import SyntheticRow


class Oracle(SyntheticRow):
    """Synthetic patches from the conditions of training patches."""

    title = "oracle conditions"
    meaning = "synthetic, from the conditions of training patches"
    colour = "#9b2c5e"
    expectations = (Expectation("oracle", "untrained", "the trained model lies below the untrained one"),)
