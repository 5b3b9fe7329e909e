"""`ddim`: denoising diffusion implicit models (Song et al., 2021), by the conventions of latent-diffusion."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zoomldm.diffusion.solvers.base import Denoise, Noise, Solver
from zoomldm.diffusion.solvers.timesteps import even, leading

SPACINGS = {"leading": leading, "even": even}


class DDIM(Solver):
    """Keep the predicted noise and lower its level, a part of it replaced by fresh noise where eta is above 0.

        x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma z,   sigma^2 = eta^2 (1 - a') / (1 - a) * (1 - a / a')

    Args:
        eta: 0 is deterministic; 1 has the variance of ancestral sampling.
        spacing: of the timesteps: "leading" (1, 21, … 981 of fifty) or "even" (0 to the last).
        last_alpha_bar: signal level a' after the last step; None: that of timestep 0, which leaves a trace of noise.
    """

    def __init__(self, *, eta: float, spacing: Literal["leading", "even"], last_alpha_bar: float | None) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, got {eta}")
        if spacing not in SPACINGS:
            raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
        if last_alpha_bar is not None and not 0 < last_alpha_bar <= 1:
            raise ValueError(f"last_alpha_bar must be null or lie above 0 and at most at 1, got {last_alpha_bar}")
        self.eta, self.spacing, self.last_alpha_bar = eta, spacing, last_alpha_bar

    def timesteps(self, num_steps: int, num_timesteps: int) -> Tensor:
        return SPACINGS[self.spacing](num_steps, num_timesteps)

    def follow(
        self, denoise: Denoise, x: Tensor, timesteps: Tensor, alpha_bars: Tensor, last: Tensor, noise: Noise
    ) -> Tensor:
        last = last if self.last_alpha_bar is None else last.new_tensor(self.last_alpha_bar)
        next_alpha_bars = torch.cat([alpha_bars[1:], last[None]])
        for step, (t, here, there) in enumerate(zip(timesteps, alpha_bars, next_alpha_bars)):
            x0, eps = denoise(x, t)
            variance = self.eta**2 * (1 - there) / (1 - here) * (1 - here / there)
            x = there.sqrt() * x0 + (1 - there - variance).sqrt() * eps
            if self.eta:
                x = x + variance.sqrt() * noise(step)
        return x
