"""The training of an autoencoder without a codebook.

Legend: b batch, p patch side (px), c latent channels, h w latent.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoomldm.data.batch import Batch
from zoomldm.diffusion.noise import keyed_normal
from zoomldm.model.autoencoder_training import AutoencoderTraining, Encoded
from zoomldm.model.kl import KLAutoencoder


class KLTraining(AutoencoderTraining):
    """Train a KL autoencoder: reconstructions of drawn latents, and their distance from the standard normal.

    Args:
        kl_weight: of the Kullback-Leibler divergence summed over a latent, beside the absolute error summed over the
            patch's values (latent diffusion: 1e-6).
        terms: of AutoencoderTraining.
    """

    autoencoder: KLAutoencoder

    def __init__(self, autoencoder: KLAutoencoder, *, kl_weight: float, **terms: Any) -> None:
        super().__init__(autoencoder, **terms)
        self.kl_weight = kl_weight

    def encoded(self, images: Tensor, batch: Batch, seed: int, *, tending: bool) -> Encoded:
        mean, deviation = (one.float() for one in self.autoencoder.distribution(images))
        divergence = 0.5 * (mean.square() + deviation.square() - 1).flatten(1).sum(1)
        divergence = divergence - deviation.log().flatten(1).sum(1)
        latents = mean
        if self.training:
            latents = mean + deviation * keyed_normal(seed, batch.sample_number, mean.shape[1:], stream="latent")
        cost = self.kl_weight * divergence / images[0].numel()
        return Encoded(latents, cost, {"latent_deviation": deviation.mean().detach()})
