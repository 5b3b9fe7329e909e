"""Tokens of an image that nothing embeds: those under which the U-Net finds it likely.

The denoising loss over all noise levels, as in training, is lowered with respect to the tokens alone. They begin as the
embedding diffusion model's mean for the magnification and are held near what it denoises them to, since a few noise
levels of one image would soon be learnt by heart.
Legend: b images, n tokens, d their width, c h w latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from zoomldm.canvas.given import filled
from zoomldm.canvas.plan import Level
from zoomldm.canvas.settings import Inversion
from zoomldm.data.batch import Batch
from zoomldm.data.pixels import to_float
from zoomldm.diffusion.noise import keyed_normal, keyed_timesteps, keyed_uniform
from zoomldm.files import progress
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.edm import EDM
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.compute import Compute

BATCH = 32
PRIOR_LEVELS = (0.02, 0.6)
"""Noise levels, as parts of all timesteps, at which tokens are held to what the EDM denoises them to."""


class Inverter:
    """Find tokens of images by one model and its EDM, which are ready to be sampled.

    Args:
        seed: keys all noise, with the images' numbers.
    """

    def __init__(self, model: ZoomLDM, edm: EDM, *, settings: Inversion, seed: int, compute: Compute) -> None:
        self.model, self.edm, self.settings, self.seed, self.compute = model, edm, settings, seed, compute

    def tokens(self, latents: Tensor, rung: int, numbers: Tensor, *, seen: Tensor | None = None) -> Tensor:
        """Find the tokens `b n d` of images, as the conditioner would give them.

        Args:
            latents: `b c h w`, unscaled.
            rung: their magnification's; numbers: int64 (b,).
            seen: part of each latent cell that is known, `b h w`; the others do not count. None: all.
        """
        starts = range(0, len(latents), BATCH)
        found = []
        for start in progress(starts, total=len(starts), label="tokens of the image", unit="batch"):
            chosen = slice(start, start + BATCH)
            found.append(self._found(latents[chosen], rung, numbers[chosen], None if seen is None else seen[chosen]))
        return torch.cat(found)

    def _found(self, latents: Tensor, rung: int, numbers: Tensor, seen: Tensor | None) -> Tensor:
        device, frozen = self.compute.device, [p for p in self.model.parameters() if p.requires_grad]
        x0, numbers = latents.to(device).float() * self.model.latent_scale, numbers.to(device)
        weight = torch.ones_like(x0[:, :1]) if seen is None else seen[:, None].to(device)
        rungs = torch.full_like(numbers, rung)
        tokens = self._mean(rungs, numbers).requires_grad_()
        optimizer = torch.optim.Adam([tokens], lr=self.settings.rate, betas=(0.9, 0.99))
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, self.settings.steps)
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            for step in range(self.settings.steps):
                loss = sum(self._loss(x0, tokens, weight, numbers, f"{step}/{k}") for k in range(self.settings.draws))
                loss = loss / self.settings.draws + self._off_the_prior(tokens, rungs, numbers, step)
                optimizer.zero_grad()
                loss.sum().backward()
                optimizer.step()
                decay.step()
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        return self.edm.unstandardise(tokens.detach())

    @torch.no_grad()
    def _mean(self, rungs: Tensor, numbers: Tensor) -> Tensor:
        """Give the standardised tokens that the EDM expects where it sees nothing but noise."""
        x_T, _ = self.edm.keyed_noise(self.seed, numbers)
        last = torch.full_like(rungs, self.edm.schedule.num_timesteps - 1)
        return self.edm.predict_x0(x_T, last, rungs).clone()

    def _loss(self, x0: Tensor, tokens: Tensor, weight: Tensor, numbers: Tensor, stream: str) -> Tensor:
        """Give the denoising loss of each image (b,) at a random noise level, where it is seen."""
        model, device = self.model, x0.device
        noise = keyed_normal(self.seed, numbers, x0.shape[1:], stream=f"inversion {stream}")
        t = keyed_timesteps(self.seed, numbers, model.schedule.num_timesteps, stream=f"inversion level {stream}")
        with torch.autocast(device.type, torch.bfloat16, self.compute.autocast):
            said = model.predict(model.schedule.add_noise(x0, noise, t), t, self.edm.unstandardise(tokens))
        root = weight.sqrt()
        loss = model.prediction.loss(model.schedule, said.float() * root, x0 * root, noise * root, t)
        return loss / weight.mean((1, 2, 3)).clamp(min=1e-6)

    def _off_the_prior(self, tokens: Tensor, rungs: Tensor, numbers: Tensor, step: int) -> Tensor:
        """Give how far tokens lie from what the EDM denoises them to, weighed, (b,)."""
        low, high = (part * self.edm.schedule.num_timesteps for part in PRIOR_LEVELS)
        t = (low + (high - low) * keyed_uniform(self.seed, numbers, stream=f"prior level {step}")).long()
        noise = keyed_normal(self.seed, numbers, tokens.shape[1:], stream=f"prior {step}")
        with torch.no_grad():
            expected = self.edm.predict_x0(self.edm.schedule.add_noise(tokens, noise, t), t, rungs)
        return self.settings.prior * (tokens - expected).square().mean((1, 2))


@dataclass(frozen=True, kw_only=True)
class TokenFinder:
    """Find the tokens of patches by what is known of them: their embeddings, or their pixels."""

    autoencoder: Autoencoder
    inverter: Inverter

    def of_conditions(self, batch: Batch) -> np.ndarray:
        """Summarise conditions to tokens, float32 (b, n, d)."""
        found, compute = [], self.inverter.compute
        with torch.inference_mode(), torch.autocast(compute.device.type, torch.bfloat16, compute.autocast):
            for index in torch.arange(len(batch)).split(BATCH):
                some = batch.select(index).to(compute.device)
                found.append(self.inverter.model.tokens(some.grids, some.rung).float().cpu())
        return torch.cat(found).numpy()

    def of_pixels(self, patches: np.ndarray, seen: np.ndarray, level: Level) -> np.ndarray:
        """Find tokens, float32 (b, n, d), by inversion.

        Args:
            patches: uint8 (b, p, p, 3); seen: bool (b, p, p), the pixels that are known.
        """
        images = torch.from_numpy(rearrange(filled(patches, seen), "b y x c -> b c y x"))
        with torch.no_grad():
            latents = self.autoencoder.encode(to_float(images.to(self.inverter.compute.device))).float()
        cell = level.patch_px // latents.shape[-1]
        weight = torch.from_numpy(reduce(seen, "b (y v) (x u) -> b y x", "min", v=cell, u=cell)).float()
        numbers = torch.arange(len(patches))
        return self.inverter.tokens(latents, level.rung.index, numbers, seen=weight).cpu().numpy()
