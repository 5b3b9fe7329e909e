"""Autoencoders without a codebook, whose latents are drawn: the KL-f4 of latent diffusion and smaller ones.

Legend: b batch, p patch side (px), c latent channels, h w latent = p / downsampling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from zoomldm.model.autoencoder import Autoencoder, LinearStart, sizes_in_diffusers


class KLAutoencoder(Autoencoder):
    """Wrap diffusers' AutoencoderKL: the encoder gives a normal distribution for each latent value.

    Diffusion runs on its mean. Three values a cell are what VQ-f4 has; more of them hold more of a patch, and ask more
    of the diffusion model.

    Args:
        channels: of the finest level; level i has channels * mult[i], and each level but the last halves the image.
        attention: whether the middle of encoder and decoder attends.
        norm_groups: groups of every group norm; must divide every level's channels.
    """

    def __init__(
        self,
        *,
        channels: int,
        mult: Sequence[int],
        num_res_blocks: int,
        latent_channels: int,
        attention: bool,
        norm_groups: int,
    ) -> None:
        super().__init__(latent_channels=latent_channels, downsampling=2 ** (len(mult) - 1))
        self.kl = AutoencoderKL(
            **sizes_in_diffusers(channels, mult, num_res_blocks, latent_channels, attention, norm_groups),
        )

    @property
    def last_layers(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        return self.kl.quant_conv, self.kl.decoder.conv_out

    def encode(self, images: Tensor) -> Tensor:
        return self.distribution(images)[0]

    def distribution(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and standard deviation of the latents of images `b 3 p p` in [-1, 1], `b c h w` each."""
        mean, log_variance = self.kl.quant_conv(self.kl.encoder(images)).chunk(2, dim=1)
        return mean, (0.5 * log_variance.clamp(-30, 20)).exp()

    def decode_as_given(self, latents: Tensor) -> Tensor:
        return self.kl.decoder(self.kl.post_quant_conv(latents))


class LinearStartKL(LinearStart, KLAutoencoder):
    """A KL autoencoder for trainings of minutes.

    Args:
        noise: standard deviation of the latents at the start, where those of a patch vary by about 1.
    """

    def __init__(self, *, noise: float, **sizes: object) -> None:
        super().__init__(**sizes)
        with torch.no_grad():
            self.kl.quant_conv.bias[self.latent_channels :] = 2 * torch.tensor(noise).log()

    def distribution(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = super().distribution(images)
        return mean + self.linear_encoder(images), deviation

    def encode(self, images: Tensor) -> Tensor:
        return self.distribution(images)[0]
