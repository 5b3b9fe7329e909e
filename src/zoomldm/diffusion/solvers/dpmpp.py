"""`dpmpp`: DPM-Solver++ (2M), deterministic and of second order (Lu et al., 2022): good samples in 10 to 25 steps."""

from __future__ import annotations

import math

from torch import Tensor

from zoomldm.diffusion.solvers.base import Denoise, Noise, Solver
from zoomldm.diffusion.solvers.timesteps import even


class DPMSolverPP(Solver):
    """Integrate the diffusion exactly in lambda = log(alpha / sigma), x0 being linear in it through two predictions.

        x' = sigma'/sigma x - alpha' (e^-h - 1) D,   D = x0 + (x0 - x0_before) h / (2 h_before),   h = lambda' - lambda

    with alpha^2 the signal level and sigma^2 = 1 - alpha^2. The first step has no prediction before it and takes
    D = x0, which is a step of DDIM; the last goes to the signal itself (sigma' = 0) and gives x0.
    """

    def timesteps(self, num_steps: int, num_timesteps: int) -> Tensor:
        return even(num_steps + 1, num_timesteps)[1:]

    def follow(
        self, denoise: Denoise, x: Tensor, timesteps: Tensor, alpha_bars: Tensor, last: Tensor, noise: Noise
    ) -> Tensor:
        before: tuple[Tensor, float] | None = None  # the prediction and the h of the step before
        levels = alpha_bars.tolist()
        for t, here, there in zip(timesteps, levels, levels[1:]):
            x0, _ = denoise(x, t)
            h = _half_log_snr(there) - _half_log_snr(here)
            direction = x0 if before is None else x0 + (x0 - before[0]) * (h / (2 * before[1]))
            x = math.sqrt((1 - there) / (1 - here)) * x - math.sqrt(there) * math.expm1(-h) * direction
            before = x0, h
        return denoise(x, timesteps[-1])[0]


def _half_log_snr(alpha_bar: float) -> float:
    """Give lambda = log(alpha / sigma) of a signal level, below all where there is no signal."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar)) if alpha_bar else -math.inf
