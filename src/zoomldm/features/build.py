"""Choose a descriptor by name."""

import os

from zoomldm.encoder.base import Encoder
from zoomldm.errors import ConfigError, near_match
from zoomldm.features.base import Descriptor

NAMES = ("inception", "texture", "stats")


def build_descriptor(
    name: str,
    *,
    encoder: Encoder | None = None,
    weights: str | os.PathLike | None = None,
    device: str = "cpu",
    batch_size: int = 50,
) -> Descriptor:
    """Build the descriptor of ``conf/features/<name>.yaml``, or that of ``encoder`` where the name is the encoder's.

    Args:
        name: ``inception``, ``texture``, ``stats`` or the name of ``encoder``.
        encoder: the encoder to use for ``stats`` (with the data set's statistics) or for its own name.
        weights: file or folder of the Inception weights.

    Raises:
        ConfigError: there is no such descriptor. WeightsError: its weights are missing.
    """
    if name == "texture":
        from zoomldm.features.texture import TextureDescriptor

        return TextureDescriptor()
    if name == "inception":
        from zoomldm.features.inception import InceptionDescriptor

        return InceptionDescriptor(weights, device=device, batch_size=batch_size)
    if name == "stats":
        from zoomldm.features.stats import StatsDescriptor

        return StatsDescriptor(encoder if encoder is not None and encoder.name == "stats" else None)
    if encoder is not None and encoder.name == name:
        from zoomldm.features.encoders import EncoderDescriptor

        return EncoderDescriptor(encoder.to(device))
    have = [*NAMES, *([encoder.name] if encoder is not None and encoder.name not in NAMES else [])]
    raise ConfigError(f"features={name}: no such descriptor;{near_match(name, have)} expected one of {', '.join(have)}")
