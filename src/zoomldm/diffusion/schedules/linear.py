"""`linear`: the schedule of DDPM, whose beta grows linearly (Ho et al., 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoomldm.diffusion.schedules.base import NoiseSchedule


class Linear(NoiseSchedule):
    """beta_t = beta_start + (beta_end - beta_start) t / (T - 1), T = num_timesteps."""

    def __init__(self, *, num_timesteps: int, beta_start: float, beta_end: float) -> None:
        super().__init__(np.linspace(beta_start, beta_end, num_timesteps))
        self.beta_start, self.beta_end = beta_start, beta_end

    def diffusers_arguments(self) -> dict[str, Any]:
        return {
            "num_train_timesteps": self.num_timesteps,
            "beta_schedule": "linear",
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
        }
