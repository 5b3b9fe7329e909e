"""The one interface of the descriptors by which two sets of patches are compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoomldm.config import Option, options_of
from zoomldm.encoder.base import Encoder
from zoomldm.errors import UserError


class Descriptor(ABC):
    """Describe patches by fixed vectors; a Fréchet distance is taken between sets of them.

    Facts known at run time, of which a class takes what it needs: `encoder` (that of the data set) and `device`.

    Attributes:
        name: the option of the group ``features`` (``texture``).
        distance_name: what its Fréchet distance is called: ``FID`` for Inception alone, ``fd_<name>`` for all others.
        dim: width d of a vector; a distance is judged only where both sides have 4 d samples or more.
        fingerprint: changes whenever the vectors could: code version, weights, statistics. Part of every cache key.
    """

    name: str
    distance_name: str
    dim: int
    fingerprint: str

    @classmethod  # noqa: B027 - most need none
    def check_files(cls, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments whose weight files are missing, before anything heavy is imported: none are needed here.

        Raises:
            UserError: which file, where it goes and how to get it.
        """

    @abstractmethod
    def describe(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 patches (n, H, W, 3) to float vectors (n, d)."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 patches (n, H, W, 3) to float32 vectors (n, d), checked at both ends."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.name}: expected uint8 (n, H, W, 3), got {images.dtype} {images.shape}")
        if len(images) == 0:
            return np.zeros((0, self.dim), np.float32)
        vectors = np.asarray(self.describe(images), np.float32)
        if vectors.shape != (len(images), self.dim):
            raise ValueError(f"{self.name}: expected vectors {(len(images), self.dim)}, got {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise UserError(
                f"features={self.name}: {int((~np.isfinite(vectors)).any(1).sum())} of {len(images)} patches "
                "give vectors that are not finite; the model or the descriptor's weights are damaged"
            )
        return vectors


def descriptors_of(
    features: Mapping[str, Any], *, encoder: Encoder | None = None, device: str = "cpu", allow: tuple[str, ...] = ()
) -> list[Descriptor]:
    """Make the descriptor that judges and then those whose distances are shown as well (``features.also``)."""
    judge = Option("features", {key: value for key, value in features.items() if key != "also"}, allow)
    options = [judge, *options_of("features.also", features.get("also") or {}, allow).values()]
    return [option.make(Descriptor, encoder=encoder, device=device) for option in options]
