"""`ddpm`: ancestral sampling (Ho et al., 2020), over all timesteps or evenly spaced ones."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomldm.diffusion.solvers.base import Denoise, Noise, Solver
from zoomldm.diffusion.solvers.timesteps import even


class DDPM(Solver):
    """Draw each x' from the posterior q(x' | x, x0) of the predicted x0, with its own variance; the last step is x0.

    mean = sqrt(a') (1 - r) / (1 - a) x0 + sqrt(r) (1 - a') / (1 - a) x,   variance = (1 - a') / (1 - a) (1 - r)

    with r = a / a', the part of the signal that one step takes away. In distribution it is DDIM with eta = 1.
    """

    def timesteps(self, num_steps: int, num_timesteps: int) -> Tensor:
        return even(num_steps, num_timesteps)

    def follow(
        self, denoise: Denoise, x: Tensor, timesteps: Tensor, alpha_bars: Tensor, last: Tensor, noise: Noise
    ) -> Tensor:
        next_alpha_bars = torch.cat([alpha_bars[1:], torch.ones_like(alpha_bars[:1])])
        for step, (t, here, there) in enumerate(zip(timesteps, alpha_bars, next_alpha_bars)):
            x0, _ = denoise(x, t)
            kept = here / there
            x = there.sqrt() * (1 - kept) / (1 - here) * x0 + kept.sqrt() * (1 - there) / (1 - here) * x
            if there < 1:
                x = x + ((1 - there) / (1 - here) * (1 - kept)).sqrt() * noise(step)
        return x
