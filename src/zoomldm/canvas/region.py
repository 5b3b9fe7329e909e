"""Draw a region of a level: many patches denoised together, in agreement with each other and with the level above.

Legend: H W patches of the region, n tokens, d their width, c channels and q cells along the side of a patch's latent,
h w the region's sides (px).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from zoomldm.canvas.agreement import corrected, enlarge, in_pixels, lacking
from zoomldm.canvas.settings import LevelSettings
from zoomldm.canvas.windows import TokenMap, predict_region
from zoomldm.data.pixels import to_uint8
from zoomldm.diffusion.guidance import guided, timesteps_within
from zoomldm.diffusion.noise import keyed_normal
from zoomldm.diffusion.solvers.base import Denoise
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.parent import planes
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.compute import Compute


@dataclass(frozen=True, kw_only=True)
class Region:
    """What a region is drawn from.

    Attributes:
        parent: the same area a level above, float32 `3 h/2 w/2` in [-1, 1]; None for roots.
        tokens: `H W n d`; numbers: int64 (H, W), which key the noise of each patch.
        needed: bool (H, W); the others are glass, and get the enlarged parent, or stay.
        stays: float32 `3 h w` in [-1, 1], of which those pixels stay that are ``held``, bool (h, w); None: none.
    """

    parent: Tensor | None
    tokens: Tensor
    numbers: Tensor
    needed: Tensor
    stays: Tensor | None = None
    held: Tensor | None = None

    def under(self) -> Tensor | None:
        """Give what lies there before anything is drawn, `3 h w`: the enlarged parent, and on it what stays."""
        bigger = None if self.parent is None else enlarge(self.parent)
        if self.stays is None:
            return bigger
        return torch.where(self.held, self.stays, torch.zeros_like(self.stays) if bigger is None else bigger)

    def lacking(self, image: Tensor, reach: int, *, of_parent: bool) -> Tensor:
        """Give what an image `3 h w` lacks: of the parent's averages, and of what stays all."""
        lack = lacking(image, self.parent, reach) if of_parent else torch.zeros_like(image)
        return lack if self.stays is None else torch.where(self.held, self.stays - image, lack)


class RegionSampler:
    """Turn regions into pixels with one model for all magnifications.

    Args:
        overlap: windows across patches join those in place, and fade into them, while less than this part of the
            noise's timesteps is left; before, what is there is laid out under each patch's own tokens.
        batch_size: windows that go through the U-Net at once.
    """

    def __init__(
        self,
        model: ZoomLDM,
        autoencoder: Autoencoder,
        *,
        overlap: float,
        seed: int,
        batch_size: int,
        compute: Compute,
    ) -> None:
        self.model, self.autoencoder = model, autoencoder
        self.overlap, self.seed = overlap, seed
        self.batch_size, self.compute = batch_size, compute
        for part in (model, autoencoder):
            compute.prepare(part)

    def draw(self, region: Region, how: LevelSettings) -> np.ndarray:
        """Draw a region, uint8 (h, w, 3)."""
        device = self.compute.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, self.compute.autocast):
            region = Region(**{name: None if x is None else x.to(device) for name, x in vars(region).items()})
            under = region.under()
            image = self._drawn(region, under, how) if under is None or bool(region.needed.any()) else under
            return rearrange(to_uint8(image[None])[0], "c h w -> h w c").cpu().numpy()

    def _drawn(self, region: Region, under: Tensor | None, how: LevelSettings) -> Tensor:
        image = self._decode(self._denoise(region, under, how))
        if region.parent is not None:
            image = in_pixels(image, region.parent, reach=how.agreement.reach, times=how.agreement.final)
        if under is not None:
            image = torch.where(_spread(region.needed, image), image, under)
        return image if region.stays is None else torch.where(region.held, region.stays, image)

    def _denoise(self, region: Region, under: Tensor | None, how: LevelSettings) -> Tensor:
        """Follow the solver to unscaled latents `c H*q W*q`; ``under``: what lies there before."""
        schedule, solver, scale = self.model.schedule, how.sampling.solver, self.model.latent_scale
        start = 1.0 if region.parent is None else how.agreement.start
        x = self._noise(region.numbers, "sampling")
        timesteps = solver.timesteps(how.sampling.steps, schedule.num_timesteps).flip(0)
        timesteps = timesteps[timesteps <= start * schedule.num_timesteps].to(x.device)
        levels = schedule.alphas_cumprod.to(x.device)
        base = None if under is None else self._encode(under) * scale
        if base is not None and start < 1:
            x = schedule.add_noise(base[None], x[None], timesteps[:1])[0]
        x0 = solver.follow(
            self._denoiser(region, base, how),
            x[None],
            timesteps,
            levels[timesteps],
            levels[0],
            lambda step: self._noise(region.numbers, f"sampling step {step}")[None],
        )
        return x0[0] / scale

    def _denoiser(self, region: Region, base: Tensor | None, how: LevelSettings) -> Denoise:
        """Return what the solver asks: windows in place that at the end overlap, glass, agreement."""
        schedule, scale = self.model.schedule, self.model.latent_scale
        needed = region.needed.cpu()  # windows are chosen here, not on the device
        token_map = TokenMap.of(region.tokens, self.model.conditioner.position)
        last, overlap = (part * schedule.num_timesteps for part in (how.agreement.until, self.overlap))
        window, told = self.model.latent_shape[1], self._told(region)

        def denoise(x: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
            t = timestep.expand(1)
            said = predict_region(
                partial(self._predict, how),
                x[0],
                timestep,
                token_map,
                window=window,
                shifts=(0, window // 2) if timestep < overlap else (0,),
                batch_size=self.batch_size,
                needed=needed,
                told=told,
            )
            x0, eps = self.model.prediction.told(schedule, x, said[None], t)
            if base is None:
                return x0, eps
            x0 = torch.where(_spread(region.needed, base), x0[0], base)
            of_parent = region.parent is not None and how.agreement.until < 1 and bool(timestep >= last)
            if of_parent or region.stays is not None:
                lack = partial(region.lacking, reach=how.agreement.reach, of_parent=of_parent)
                x0 = corrected(x0 / scale, lack, encode=self._encode, decode=self._decode) * scale
            return x0[None], schedule.eps_from_x0(x, x0[None], t)

        return denoise

    def _predict(self, how: LevelSettings, x: Tensor, t: Tensor, tokens: Tensor, told: Tensor | None) -> Tensor:
        """Guide away from what the model says without tokens; what it is told of the level above it knows in both."""
        within = timesteps_within(how.sampling.guidance_interval, self.model.schedule.num_timesteps)

        def predict(x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
            return self.model.predict(x, t, tokens, None if told is None else told.repeat(len(x) // len(told), 1, 1, 1))

        null = self.model.conditioner.null_tokens(len(tokens)).to(tokens.dtype)
        return guided(predict, tokens, null, how.sampling.guidance_scale, within=within)(x, t)

    def _told(self, region: Region) -> Tensor | None:
        """Give what the U-Net is told of the level above, `k H*q W*q`; None of a root, or where it cannot be told."""
        if region.parent is None or not self.model.told_planes:
            return None
        cells = tuple(count * self.model.latent_shape[1] for count in region.numbers.shape)
        return planes(region.parent[None], cells)[0]

    def _noise(self, numbers: Tensor, stream: str) -> Tensor:
        """Lay the noise of each patch where it lies, `c H*q W*q`."""
        noise = keyed_normal(self.seed, numbers.flatten(), self.model.latent_shape, stream=stream)
        return rearrange(noise, "(H W) c h w -> c (H h) (W w)", H=len(numbers))

    def _encode(self, image: Tensor) -> Tensor:
        return self.autoencoder.encode(image[None])[0].float()

    def _decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents[None])[0].float()


def _spread(patches: Tensor, image: Tensor) -> Tensor:
    """Bring a mask of patches (H, W) to the size of an image `c h w`, (h, w)."""
    side = image.shape[1] // len(patches)
    return patches.repeat_interleave(side, 0).repeat_interleave(side, 1)
