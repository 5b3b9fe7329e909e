"""The one interface of tile encoders: uint8 tiles in, one vector a tile out."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Encoder(ABC):
    """Turn tiles into vectors.

    Attributes:
        name: the option's name in ``conf/encoder``; a data set remembers it.
        dim: width D of a vector.
        input_px: side to which a tile is brought before the network sees it (None: any side is taken as it is).
        mpp: micrometres a pixel at which the encoder was trained.
        weights_sha256: hash of the weight file, None for an encoder without weights.
        licence: of the weights, which a model trained on its vectors inherits; empty for an encoder without weights.
        batch_size: tiles a call; preparation always calls with exactly this many (the last batch is padded), so that
            a tile's vector does not depend on what was encoded beside it. None: any number will do.
        is_standardised: its vectors become comparable only by mean and standard deviation of the training tiles, which
            preparation finds and gives as ``statistics``.
    """

    name: str
    dim: int
    input_px: int | None = None
    mpp: float = 0.5
    weights_sha256: str | None = None
    licence: str = ""
    batch_size: int | None = 64
    is_standardised: bool = False

    @property
    def row_dtype(self) -> type[np.floating]:
        """Type in which preparation keeps vectors: grids are float16, what is yet to be standardised is float32."""
        return np.float32 if self.is_standardised else np.float16

    @abstractmethod
    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Encode tiles, (n, H, W, 3) uint8, to (n, dim) float32."""

    def to(self, device: Any) -> "Encoder":
        """Move the weights to a device and return the encoder; encoders without weights stay where they are."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says about the encoder."""
        return {
            "name": self.name,
            "dim": self.dim,
            "weights_sha256": self.weights_sha256,
            "input_px": self.input_px or 0,
            "mpp": self.mpp,
            "statistics": None,
        }


def padded(batch: np.ndarray, size: int | None) -> np.ndarray:
    """Repeat the last item until there are ``size`` of them; the batch itself where none is missing."""
    missing = max(0, (size or 0) - len(batch))
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch


def encode_in_batches(encoder: Encoder, tiles: np.ndarray) -> np.ndarray:
    """Encode any number of tiles, (n, H, W, 3), in calls of ``encoder.batch_size``, the last one padded; (n, dim)."""
    size = encoder.batch_size
    if not size or not len(tiles):
        return encoder(tiles) if len(tiles) else np.zeros((0, encoder.dim), np.float32)
    rows = []
    for start in range(0, len(tiles), size):
        batch = tiles[start : start + size]
        rows.append(encoder(padded(batch, size))[: len(batch)])
    return np.concatenate(rows)
