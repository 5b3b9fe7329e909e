"""How benchmarks, and tests of what a large slide takes, prepare slides: by conf/, with some words said otherwise."""

from data_prep.settings import SlideSettings, from_config
from zoomldm.composing import compose_jobs


def paper_settings(*words: str) -> SlideSettings:
    """Return the settings of data=brca_8mag with the encoder stats, without lossless references, and with ``words``."""
    said = ["data=brca_8mag", "encoder=stats", "data.reference=0", *words]
    return from_config(compose_jobs("prepare", said)[0])[0]
