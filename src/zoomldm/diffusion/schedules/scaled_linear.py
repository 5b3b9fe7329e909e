"""`scaled_linear`: the latent diffusion schedule, whose sqrt(beta) grows linearly (Rombach et al., 2022)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoomldm.diffusion.schedules.base import NoiseSchedule


class ScaledLinear(NoiseSchedule):
    """beta_t = (sqrt(beta_start) + (sqrt(beta_end) - sqrt(beta_start)) t / (T - 1))^2, T = num_timesteps."""

    def __init__(self, *, num_timesteps: int, beta_start: float, beta_end: float) -> None:
        super().__init__(np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_timesteps) ** 2)
        self.beta_start, self.beta_end = beta_start, beta_end

    def diffusers_arguments(self) -> dict[str, Any]:
        return {
            "num_train_timesteps": self.num_timesteps,
            "beta_schedule": "scaled_linear",
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
        }
