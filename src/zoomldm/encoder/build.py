"""From ``conf/encoder/*.yaml`` to an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoomldm.encoder.base import Encoder
from zoomldm.errors import ConfigError, near_match

HUB_ENCODERS = ("uni", "uni2_h", "virchow2", "h_optimus_0", "phikon_v2", "dinov2")
ENCODERS = ("stats", "hipt", "ctranspath", *HUB_ENCODERS)


def build_encoder(config: Mapping[str, Any], *, statistics: dict[str, Any] | None = None) -> Encoder:
    """Build the encoder that a configuration names.

    Args:
        config: name, weights (a file or folder; none for ``stats``), batch_size, device, what the encoder adds, and
            ``tiles`` (px, mpp), which are compared with what the encoder was trained on.
        statistics: of ``stats``, as the manifest keeps them.

    Raises:
        ConfigError: no such encoder, or no weights given.
        WeightsError: the weights are missing or are another model's.
    """
    keywords = {key: config[key] for key in config if config[key] is not None}
    name = keywords.pop("name")
    if name not in ENCODERS:
        raise ConfigError(
            f"encoder={name}: no such encoder;{near_match(name, ENCODERS)} expected {', '.join(ENCODERS)}"
        )
    if name == "stats":
        from zoomldm.encoder.stats import StatsEncoder

        return StatsEncoder(statistics)
    if "weights" not in keywords:
        raise ConfigError(f"encoder={name} needs encoder.weights=PATH; docs/weights.md says where they are published")
    from zoomldm.encoder.vision import warn_of_mismatch

    tiles = keywords.pop("tiles", None)
    encoder = _with_weights(name, keywords)
    if tiles:
        warn_of_mismatch(encoder, tile_px=tiles["px"], mpp=tiles["mpp"])
    return encoder


def _with_weights(name: str, keywords: dict[str, Any]) -> Encoder:
    if name == "hipt":
        from zoomldm.encoder.hipt import HIPTEncoder

        return HIPTEncoder(**keywords)
    if name == "ctranspath":
        from zoomldm.encoder.ctranspath import CTransPathEncoder

        return CTransPathEncoder(**keywords)
    from zoomldm.encoder.timm_hub import HubEncoder

    return HubEncoder(name=name, **keywords)
