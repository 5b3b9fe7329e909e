"""The training of an autoencoder: reconstruction and codebook losses, and a codebook that stays alive.

Legend: b batch, p patch side (px), c latent channels, h w latent, k codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, distributed
from torch.nn import functional

from zoomldm.data.batch import Batch
from zoomldm.data.pixels import to_float
from zoomldm.diffusion.losses import squared_error
from zoomldm.diffusion.noise import keyed_uniform
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.trainable import Trainable


class VQTraining(Trainable):
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
        start_steps, revive_every, revive_steps: in optimiser steps, however many micro-batches and processes share one.
            None for start_steps keeps the weights as they are, codebook included, to go on from a trained autoencoder.
    """

    kind = "autoencoder"
    columns = ("image",)

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        mse_weight: float,
        edge_weight: float,
        contrast_weight: float,
        codebook_weight: float,
        commitment: float,
        start_steps: int | None,
        revive_every: int,
        revive_steps: int,
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
        self.steps_begun = 0
        self._tending = False  # whether the next forward is the first of its step
        self.register_buffer("num_forwards", torch.zeros((), dtype=torch.int64))  # steps_begun, by its name of format 1
        self.register_buffer("code_uses", torch.zeros(len(autoencoder.codebook), dtype=torch.int64))

    def before_step(self, step: int) -> None:
        self.steps_begun, self._tending = step + 1, self.start_steps is not None
        self.num_forwards.fill_(self.steps_begun)

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        images = to_float(batch.image)
        tending = self.training and self._tending
        if tending and self.steps_begun == 1:
            self.autoencoder.start_from(images)
            _take_from_first_rank(self.autoencoder.parameters())
        latents = self.autoencoder.encode(images).float()
        if tending:
            self._tending = False
            self._tend_codebook(latents.detach(), batch.sample_number, seed)
        passed, quantisation, commitment = self._quantised(latents)
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

    def _quantised(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give what the decoder is shown `b c h w`, and the loss of the codebook and of the encoder, (b,) each."""
        if self.start_steps is not None and self.steps_begun <= self.start_steps:
            none = latents.new_zeros(len(latents))
            return latents + 0 * self.autoencoder.codebook.sum(), none, none
        codes = self.autoencoder.codes(latents.detach())
        if self.training:
            uses = torch.bincount(codes.flatten(), minlength=len(self.code_uses))
            if _is_distributed():  # summed here, so that every process holds the same counts: DDP spreads the first's
                distributed.all_reduce(uses)
            self.code_uses += uses
        nearest = rearrange(functional.embedding(codes, self.autoencoder.codebook), "b h w c -> b c h w")
        quantisation = squared_error(nearest, latents.detach())
        return latents + (nearest - latents).detach(), quantisation, squared_error(latents, nearest.detach())

    def sampling_model(self) -> Autoencoder:
        return self.autoencoder

    def extra_state(self) -> dict[str, Any]:
        return {"downsampling": self.autoencoder.downsampling, "latent_channels": self.autoencoder.latent_channels}

    @torch.no_grad()
    def _tend_codebook(self, latents: Tensor, sample_numbers: Tensor, seed: int) -> None:
        """Where it is due, set all codes or the dead ones to latents drawn from this batch."""
        step = self.steps_begun - self.start_steps
        if step == 1:
            replaced = torch.ones_like(self.code_uses, dtype=torch.bool)
        elif 1 < step <= self.revive_steps and step % self.revive_every == 0:
            replaced = self.code_uses == 0
            self.code_uses.zero_()
        else:
            return
        vectors = rearrange(latents, "b c h w -> b (h w) c")
        scores = keyed_uniform(seed, sample_numbers, vectors.shape[1:2], stream="codebook").flatten()
        chosen = rearrange(vectors, "b n c -> (b n) c")[scores.argsort()[: len(replaced)]]
        chosen = chosen.repeat(-(-len(replaced) // len(chosen)), 1)[: len(replaced)]
        codebook = self.autoencoder.codebook
        codebook.copy_(torch.where(replaced[:, None], chosen.to(codebook.dtype), codebook))
        _take_from_first_rank([codebook])


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
