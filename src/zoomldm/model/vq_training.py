"""The training of an autoencoder with a codebook that stays alive.

Legend: b batch, c latent channels, h w latent, k codes.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, distributed
from torch.nn import functional

from zoomldm.data.batch import Batch
from zoomldm.diffusion.losses import squared_error
from zoomldm.diffusion.noise import keyed_uniform
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.autoencoder_training import AutoencoderTraining, Encoded, is_distributed, take_from_first_rank


class VQTraining(AutoencoderTraining):
    """Train an autoencoder with a codebook: reconstruction and codebook losses.

    The codebook starts from data: for start_steps steps latents pass unquantised, then every code is set to a latent of
    the batch. For revive_steps more, every revive_every of them, codes that went unused move to latents of the batch,
    so that no part of the codebook dies.

    Args:
        codebook_weight: of the vector-quantisation loss.
        commitment: weight of the encoder's part of it, beside 1 for the codebook's part.
        start_steps, revive_every, revive_steps: in optimiser steps, however many micro-batches and processes share one.
            None for start_steps keeps the weights as they are, codebook included, to go on from a trained autoencoder.
        terms: of AutoencoderTraining.
    """

    autoencoder: VQAutoencoder

    def __init__(
        self,
        autoencoder: VQAutoencoder,
        *,
        codebook_weight: float,
        commitment: float,
        start_steps: int | None,
        revive_every: int,
        revive_steps: int,
        **terms: Any,
    ) -> None:
        super().__init__(autoencoder, **terms)
        self.from_start = start_steps is not None
        self.codebook_weight = codebook_weight
        self.commitment = commitment
        self.start_steps = start_steps
        self.revive_every = revive_every
        self.revive_steps = revive_steps
        self.register_buffer("num_forwards", torch.zeros((), dtype=torch.int64))  # steps_begun, by its name of format 1
        self.register_buffer("code_uses", torch.zeros(len(autoencoder.codebook), dtype=torch.int64))

    def before_step(self, step: int) -> None:
        super().before_step(step)
        self.num_forwards.fill_(self.steps_begun)

    def encoded(self, images: Tensor, batch: Batch, seed: int, *, tending: bool) -> Encoded:
        latents = self.autoencoder.encode(images).float()
        if tending:
            self._tend_codebook(latents.detach(), batch.sample_number, seed)
        passed, quantisation, commitment = self._quantised(latents)
        cost = self.codebook_weight * (quantisation + self.commitment * commitment)
        return Encoded(passed, cost, {"quantisation_error": quantisation.mean().detach()})

    def _quantised(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give what the decoder is shown `b c h w`, and the loss of the codebook and of the encoder, (b,) each."""
        if self.start_steps is not None and self.steps_begun <= self.start_steps:
            none = latents.new_zeros(len(latents))
            return latents + 0 * self.autoencoder.codebook.sum(), none, none
        codes = self.autoencoder.codes(latents.detach())
        if self.training:
            uses = torch.bincount(codes.flatten(), minlength=len(self.code_uses))
            if is_distributed():  # summed here, so that every process holds the same counts: DDP spreads the first's
                distributed.all_reduce(uses)
            self.code_uses += uses
        nearest = rearrange(functional.embedding(codes, self.autoencoder.codebook), "b h w c -> b c h w")
        quantisation = squared_error(nearest, latents.detach())
        return latents + (nearest - latents).detach(), quantisation, squared_error(latents, nearest.detach())

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
        take_from_first_rank([codebook])
