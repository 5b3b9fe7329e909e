"""`scaled_linear`: the latent diffusion schedule, whose sqrt(beta) grows linearly (Rombach et al., 2022)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoomldm.diffusion.schedules.base import NoiseSchedule


def scaled_linear_betas(num_timesteps: int, beta_start: float, beta_end: float) -> np.ndarray:
    """Return the betas of the schedule, float64 (num_timesteps,)."""
    return np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_timesteps) ** 2


class ScaledLinear(NoiseSchedule):
    """beta_t = (sqrt(beta_start) + (sqrt(beta_end) - sqrt(beta_start)) t / (T - 1))^2, T = num_timesteps."""

    def __init__(self, *, num_timesteps: int, beta_start: float, beta_end: float) -> None:
        super().__init__(scaled_linear_betas(num_timesteps, beta_start, beta_end))
        self.beta_start, self.beta_end = beta_start, beta_end

    def diffusers_arguments(self) -> dict[str, Any]:
        return {
            "num_train_timesteps": self.num_timesteps,
            "beta_schedule": "scaled_linear",
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
        }
