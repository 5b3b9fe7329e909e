"""A tile encoder as a descriptor: ``stats``, or any pathology encoder that is at hand."""

import hashlib
import json

import numpy as np

from zoomldm.encoder.base import Encoder, encode_in_batches
from zoomldm.features.base import Descriptor


class EncoderDescriptor(Descriptor):
    """Describe patches by a tile encoder's vectors; its distance is named after it (``fd_stats``), never FID.

    An encoder that conditions the model flatters it; the report says so where that is the case.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.name = encoder.name
        self.distance_name = f"fd_{encoder.name}"
        self.dim = encoder.dim
        content = json.dumps(encoder.describe(), sort_keys=True, default=str)
        self.fingerprint = f"{encoder.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def describe(self, images: np.ndarray) -> np.ndarray:
        return encode_in_batches(self.encoder, images)
