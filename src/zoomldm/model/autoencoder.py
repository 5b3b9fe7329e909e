"""The VQ-f4 autoencoder of latent diffusion, and its training.

Diffusion runs on the latents before quantisation; decoding quantises first.
Legend: b batch, p patch side (px), c latent channels, h w latent = p / downsampling, k codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from diffusers import VQModel
from torch import Tensor, distributed, nn
from torch.nn import functional

from zoomldm.data.batch import Batch
from zoomldm.diffusion.losses import squared_error
from zoomldm.diffusion.noise import keyed_uniform
from zoomldm.model.trainable import Trainable


class Autoencoder(nn.Module):
    """Wrap diffusers' VQModel, which loads the original weights, in the two functions that diffusion needs.

    Args:
        channels: of the finest level; level i has channels * mult[i], and each level but the last halves the image.
        num_codes: k, codebook entries of latent_channels values.
        attention: whether the middle of encoder and decoder attends.
        norm_groups: groups of every group norm; must divide every level's channels.
    """

    def __init__(
        self,
        *,
        channels: int = 128,
        mult: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2,
        latent_channels: int = 3,
        num_codes: int = 8192,
        attention: bool = True,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.downsampling = 2 ** (len(mult) - 1)
        self.vq = VQModel(
            block_out_channels=[channels * m for m in mult],
            down_block_types=["DownEncoderBlock2D"] * len(mult),
            up_block_types=["UpDecoderBlock2D"] * len(mult),
            layers_per_block=num_res_blocks,
            latent_channels=latent_channels,
            num_vq_embeddings=num_codes,
            vq_embed_dim=latent_channels,
            norm_num_groups=norm_groups,
            mid_block_add_attention=attention,
            scaling_factor=1.0,
        )

    @property
    def codebook(self) -> nn.Parameter:
        """The code vectors `k c`."""
        return self.vq.quantize.embedding.weight

    def latent_shape(self, patch_px: int) -> tuple[int, int, int]:
        """Give (c, h, w) for a patch side."""
        side = patch_px // self.downsampling
        return self.latent_channels, side, side

    def start_from(self, images: Tensor) -> None:
        """Set weights that begin at statistics of the first batch of training: none here."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images `b 3 p p` in [-1, 1] to latents `b c h w`, before quantisation and unscaled."""
        return self.vq.quant_conv(self.vq.encoder(images))

    def decode(self, latents: Tensor) -> Tensor:
        """Quantise latents `b c h w` and decode them to images `b 3 p p`, about [-1, 1]."""
        return self.decode_quantised(self.quantise(latents))

    def decode_quantised(self, latents: Tensor) -> Tensor:
        """Decode latents that are codes already."""
        return self.vq.decoder(self.vq.post_quant_conv(latents))

    def codes(self, latents: Tensor) -> Tensor:
        """Give the nearest code of each latent vector, int64 `b h w`."""
        with torch.autocast(latents.device.type, enabled=False):
            vectors = latents.float().movedim(1, -1)
            distances = torch.cdist(vectors.reshape(1, -1, vectors.shape[-1]), self.codebook.float()[None])[0]
        return distances.argmin(1).reshape(vectors.shape[:-1])

    def quantise(self, latents: Tensor) -> Tensor:
        """Replace each latent vector by its nearest code."""
        return functional.embedding(self.codes(latents), self.codebook).movedim(-1, 1)


class LinearStartAutoencoder(Autoencoder):
    """Let the networks correct a linear autoencoder of f x f patches, which starts as their principal components.

    For a training of minutes: it begins where the plain autoencoder arrives after hundreds of steps. The linear
    encoder is a convolution with kernel and stride f = downsampling; the linear decoder is its transpose at the start;
    both train on. The networks' last layers start at zero.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.linear_encoder = nn.Conv2d(3, self.latent_channels, self.downsampling, self.downsampling)
        self.linear_decoder = nn.ConvTranspose2d(self.latent_channels, 3, self.downsampling, self.downsampling)
        for layer in (self.vq.quant_conv, self.vq.decoder.conv_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) + self.linear_encoder(images)

    def decode_quantised(self, latents: Tensor) -> Tensor:
        return super().decode_quantised(latents) + self.linear_decoder(latents)

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Set the linear part to the principal components of the images' patches, latents of standard deviation 1."""
        f, c = self.downsampling, self.latent_channels
        patches = functional.unfold(images.float(), f, stride=f).transpose(1, 2).flatten(0, 1).double()
        mean = patches.mean(0)
        _, _, basis = torch.linalg.svd(patches - mean, full_matrices=False)
        basis = basis[:c] * basis[:c].sum(1, keepdim=True).sign()
        scale = ((patches - mean) @ basis.T).std()
        self.linear_encoder.weight.copy_((basis / scale).reshape(c, 3, f, f))
        self.linear_encoder.bias.copy_(-(basis @ mean) / scale)
        self.linear_decoder.weight.copy_((basis * scale).reshape(c, 3, f, f))
        self.linear_decoder.bias.copy_(mean.reshape(3, f, f).mean((1, 2)))


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map images from about [-1, 1] to uint8, rounding and clipping."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class AutoencoderTrainable(Trainable):
    """Train an autoencoder on patches: reconstruction and codebook losses.

    The codebook starts from data: for start_steps steps latents pass unquantised, then every code is set to a latent of
    the batch. For revive_steps more, every revive_every of them, codes that went unused move to latents of the batch,
    so that no part of the codebook dies.

    Args:
        mse_weight: of the squared error beside the absolute error, both in units of [-1, 1].
        edge_weight: of the absolute error of the differences between neighbouring pixels, which resists blur.
        contrast_weight: of the absolute error of the local standard deviation (4 x 4 px). Pixel errors alone are least
            where detail that the latent cannot hold is left out; this asks for as much of it as there was.
        codebook_weight: of the vector-quantisation loss.
        commitment: weight of the encoder's part of it, beside 1 for the codebook's part.
        start_steps: None keeps the weights as they are, codebook included, to go on from a trained autoencoder.
    """

    kind = "autoencoder"
    columns = ("image",)

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        mse_weight: float = 0.0,
        edge_weight: float = 0.0,
        contrast_weight: float = 0.0,
        codebook_weight: float = 1.0,
        commitment: float = 0.25,
        start_steps: int | None = 200,
        revive_every: int = 50,
        revive_steps: int = 2000,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.mse_weight = mse_weight
        self.edge_weight = edge_weight
        self.contrast_weight = contrast_weight
        self.codebook_weight = codebook_weight
        self.commitment = commitment
        self.start_steps = start_steps
        self.revive_every = revive_every
        self.revive_steps = revive_steps
        self.register_buffer("num_forwards", torch.zeros((), dtype=torch.int64))
        self.register_buffer("code_uses", torch.zeros(len(autoencoder.codebook), dtype=torch.int64))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        images = to_float(batch.image)
        if self.training and self.start_steps is not None and int(self.num_forwards) == 0:
            self.autoencoder.start_from(images)
            _take_from_first_rank(self.autoencoder.parameters())
        latents = self.autoencoder.encode(images).float()
        if self.training and self.start_steps is not None:
            self._tend_codebook(latents.detach(), batch.sample_number, seed)
        if self.start_steps is None or int(self.num_forwards) > self.start_steps:
            codes = self.autoencoder.codes(latents.detach())
            nearest = functional.embedding(codes, self.autoencoder.codebook).movedim(-1, 1)
            quantisation = squared_error(nearest, latents.detach())
            commitment = squared_error(latents, nearest.detach())
            passed = latents + (nearest - latents).detach()
            if self.training:
                self._count(codes)
        else:
            quantisation = commitment = latents.new_zeros(len(latents))
            passed = latents + 0 * self.autoencoder.codebook.sum()
        reconstruction = self.autoencoder.decode_quantised(passed).float()
        difference = reconstruction - images
        absolute, squared = difference.abs().flatten(1).mean(1), difference.square().flatten(1).mean(1)
        loss = absolute + self.mse_weight * squared
        loss = loss + self.codebook_weight * (quantisation + self.commitment * commitment)
        if self.edge_weight:
            loss = loss + self.edge_weight * sum(difference.diff(dim=axis).abs().flatten(1).mean(1) for axis in (2, 3))
        if self.contrast_weight:
            contrast_error = _contrast(reconstruction) - _contrast(images)
            loss = loss + self.contrast_weight * contrast_error.abs().flatten(1).mean(1)
        return {
            "loss_per_sample": loss,
            "absolute_error": absolute.mean().detach(),
            "psnr": (-10 * torch.log10(squared.detach() / 4)).mean(),
            "quantisation_error": quantisation.mean().detach(),
        }

    def sampling_model(self) -> Autoencoder:
        return self.autoencoder

    def extra_state(self) -> dict[str, Any]:
        return {"downsampling": self.autoencoder.downsampling, "latent_channels": self.autoencoder.latent_channels}

    @torch.no_grad()
    def _tend_codebook(self, latents: Tensor, sample_numbers: Tensor, seed: int) -> None:
        """Advance the clock and, when due, set all codes or the dead ones to latents drawn from this batch."""
        self.num_forwards += 1
        step = int(self.num_forwards) - self.start_steps
        if step == 1:
            replaced = torch.ones_like(self.code_uses, dtype=torch.bool)
        elif 1 < step <= self.revive_steps and step % self.revive_every == 0:
            uses = self.code_uses.clone()
            if _is_distributed():
                distributed.all_reduce(uses)
            replaced = uses == 0
            self.code_uses.zero_()
        else:
            return
        vectors = latents.movedim(1, -1).flatten(1, 2)
        scores = keyed_uniform(seed, sample_numbers, vectors.shape[1:2], stream="codebook").flatten()
        chosen = vectors.flatten(0, 1)[scores.argsort()[: len(replaced)]]
        chosen = chosen.repeat(-(-len(replaced) // len(chosen)), 1)[: len(replaced)]
        codebook = self.autoencoder.codebook
        codebook.copy_(torch.where(replaced[:, None], chosen.to(codebook.dtype), codebook))
        _take_from_first_rank([codebook])

    def _count(self, codes: Tensor) -> None:
        self.code_uses += torch.bincount(codes.flatten(), minlength=len(self.code_uses))


def _contrast(images: Tensor) -> Tensor:
    """Give the standard deviation of each channel in overlapping windows of 4 x 4 px."""
    mean = functional.avg_pool2d(images, 4, 2)
    variance = functional.avg_pool2d(images.square(), 4, 2) - mean.square()
    return (variance.clamp(min=0) + 1e-4).sqrt()


@torch.no_grad()
def _take_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of rank 0, where there are several ranks."""
    if _is_distributed():
        for tensor in tensors:
            distributed.broadcast(tensor.data, src=0)


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
