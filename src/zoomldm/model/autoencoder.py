"""Autoencoders of patches: what diffusion needs of them, and the VQ-f4 of latent diffusion.

Diffusion runs on the latents before quantisation; decoding quantises first.
Legend: b batch, p patch side (px), c latent channels, h w latent = p / downsampling, k codes; of f x f patches, f =
downsampling: n patches, v values, (rgb y x) the same as colour, row and column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import VQModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


class Autoencoder(nn.Module):
    """What diffusion and its own training need of an autoencoder.

    Args:
        latent_channels: c.
        downsampling: patch side over latent side, a power of two.
    """

    def __init__(self, *, latent_channels: int, downsampling: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.downsampling = downsampling

    @property
    def last_layers(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The last layers of the encoder and of the decoder."""
        raise NotImplementedError

    def latent_shape(self, patch_px: int) -> tuple[int, int, int]:
        """Give (c, h, w) for a patch side."""
        side = patch_px // self.downsampling
        return self.latent_channels, side, side

    def start_from(self, images: Tensor) -> None:
        """Set weights that begin at statistics of the first batch of training: none here."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images `b 3 p p` in [-1, 1] to latents `b c h w`, before quantisation and unscaled."""
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents `b c h w`, quantised first where there is a codebook, to images `b 3 p p`, about [-1, 1]."""
        return self.decode_as_given(latents)

    def decode_as_given(self, latents: Tensor) -> Tensor:
        """Decode latents as they are: of a codebook, codes already."""
        raise NotImplementedError


def sizes_in_diffusers(
    channels: int,
    mult: Sequence[int],
    num_res_blocks: int,
    latent_channels: int,
    attention: bool,
    norm_groups: int,
) -> dict[str, Any]:
    """Say in diffusers' words what the networks of its autoencoders have in common; latents are scaled elsewhere."""
    return {
        "block_out_channels": [channels * m for m in mult],
        "down_block_types": ["DownEncoderBlock2D"] * len(mult),
        "up_block_types": ["UpDecoderBlock2D"] * len(mult),
        "layers_per_block": num_res_blocks,
        "latent_channels": latent_channels,
        "norm_num_groups": norm_groups,
        "mid_block_add_attention": attention,
        "scaling_factor": 1.0,
    }


class VQAutoencoder(Autoencoder):
    """Wrap diffusers' VQModel, which loads the original weights.

    Args:
        channels: of the finest level; level i has channels * mult[i], and each level but the last halves the image.
        num_codes: k, codebook entries of latent_channels values.
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
        num_codes: int,
        attention: bool,
        norm_groups: int,
    ) -> None:
        super().__init__(latent_channels=latent_channels, downsampling=2 ** (len(mult) - 1))
        self.vq = VQModel(
            **sizes_in_diffusers(channels, mult, num_res_blocks, latent_channels, attention, norm_groups),
            num_vq_embeddings=num_codes,
            vq_embed_dim=latent_channels,
        )

    @property
    def codebook(self) -> nn.Parameter:
        """The code vectors `k c`."""
        return self.vq.quantize.embedding.weight

    @property
    def last_layers(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        return self.vq.quant_conv, self.vq.decoder.conv_out

    def encode(self, images: Tensor) -> Tensor:
        return self.vq.quant_conv(self.vq.encoder(images))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_as_given(self.quantise(latents))

    def decode_as_given(self, latents: Tensor) -> Tensor:
        return self.vq.decoder(self.vq.post_quant_conv(latents))

    def codes(self, latents: Tensor) -> Tensor:
        """Give the nearest code of each latent vector, int64 `b h w`."""
        b, _, h, w = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            vectors = rearrange(latents.float(), "b c h w -> 1 (b h w) c")
            distances = torch.cdist(vectors, self.codebook.float()[None])[0]
        return rearrange(distances.argmin(1), "(b h w) -> b h w", b=b, h=h, w=w)

    def quantise(self, latents: Tensor) -> Tensor:
        """Replace each latent vector by its nearest code."""
        return rearrange(functional.embedding(self.codes(latents), self.codebook), "b h w c -> b c h w")


class LinearStart(Autoencoder):
    """Let the networks correct a linear autoencoder of f x f patches, which starts as their principal components.

    For a training of minutes: it begins where the plain autoencoder arrives after hundreds of steps. The linear
    encoder is a convolution with kernel and stride f = downsampling; the linear decoder is its transpose at the start;
    both train on. The networks' last layers start at zero. A mixin, before the class whose networks they are.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.linear_encoder = nn.Conv2d(3, self.latent_channels, self.downsampling, self.downsampling)
        self.linear_decoder = nn.ConvTranspose2d(self.latent_channels, 3, self.downsampling, self.downsampling)
        for layer in self.last_layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) + self.linear_encoder(images)

    def decode_as_given(self, latents: Tensor) -> Tensor:
        return super().decode_as_given(latents) + self.linear_decoder(latents)

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Set the linear part to the principal components of the images' patches, latents of standard deviation 1."""
        f, c = self.downsampling, self.latent_channels
        patches = rearrange(functional.unfold(images.float(), f, stride=f), "b v n -> (b n) v").double()
        mean = patches.mean(0)
        _, _, basis = torch.linalg.svd(patches - mean, full_matrices=False)
        basis = basis[:c] * basis[:c].sum(1, keepdim=True).sign()
        scale = ((patches - mean) @ basis.T).std()
        kernels = rearrange(basis, "c (rgb y x) -> c rgb y x", rgb=3, y=f, x=f)
        self.linear_encoder.weight.copy_(kernels / scale)
        self.linear_encoder.bias.copy_(-(basis @ mean) / scale)
        self.linear_decoder.weight.copy_(kernels * scale)
        self.linear_decoder.bias.copy_(rearrange(mean, "(rgb y x) -> rgb y x", rgb=3, y=f).mean((1, 2)))


class LinearStartAutoencoder(LinearStart, VQAutoencoder):
    """A VQ autoencoder for trainings of minutes."""
