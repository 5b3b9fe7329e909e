"""A tile encoder as a descriptor: any option of ``conf/encoder`` may judge."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from zoomldm.config import Option
from zoomldm.encoder.base import Encoder, encode_in_batches
from zoomldm.features.base import Descriptor


class EncoderDescriptor(Descriptor):
    """Describe patches by a tile encoder's vectors; its distance is named after it (``fd_stats``), never FID.

    An encoder that conditions the model flatters it; the report says so where that is the case.

    Args:
        encoder: the encoder, or the option that makes it.
    """

    def __init__(self, encoder: Encoder | Option, *, device: str = "cpu") -> None:
        self.encoder = (encoder.make(Encoder) if isinstance(encoder, Option) else encoder).to(device)
        self.name = self.encoder.name
        self.distance_name = f"fd_{self.name}"
        self.dim = self.encoder.dim
        content = json.dumps(self.encoder.describe(), sort_keys=True, default=str)
        self.fingerprint = f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def describe(self, images: np.ndarray) -> np.ndarray:
        return encode_in_batches(self.encoder, images)
