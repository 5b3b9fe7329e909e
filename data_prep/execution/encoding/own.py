"""The encoders of this process, each built on first use."""

import json
import os

from zoomldm.config import Option
from zoomldm.encoder.base import Encoder

_encoders: dict[str, Encoder] = {}


def get_encoder(option: Option) -> Encoder:
    """Return this process's encoder of an option: one that `share` gave it, else its own; on a GPU where there is one.

    Raises:
        UserError: no such encoder, or weights that are missing or another model's.
    """
    key = _key_of(option)
    if key not in _encoders:
        _encoders[key] = _built(option)
    return _encoders[key]


def share(option: Option, encoder: Encoder) -> None:
    """Let `get_encoder` return this encoder, a `SharedEncoder` mostly, in this process, until `stop_sharing`."""
    _encoders[_key_of(option)] = encoder


def stop_sharing(option: Option) -> None:
    """Let `get_encoder` build this process's own encoder again."""
    _encoders.pop(_key_of(option), None)


def _built(option: Option) -> Encoder:
    encoder = option.make(Encoder, statistics=None)
    if encoder.weights_sha256 is None:
        return encoder
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
        return encoder
    return encoder.to(f"cuda:{int(os.environ.get('ZOOMLDM_WORKER', '0')) % torch.cuda.device_count()}")


def _key_of(option: Option) -> str:
    return json.dumps(dict(option.section), sort_keys=True, default=str)
