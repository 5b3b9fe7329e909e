"""`squared_cosine`: the schedule whose alpha_bar is a squared cosine (Nichol and Dhariwal, 2021)."""

from __future__ import annotations

import math

import numpy as np

from zoomldm.diffusion.schedules.base import NoiseSchedule


class SquaredCosine(NoiseSchedule):
    """alpha_bar(t) = cos^2((t/T + offset) / (1 + offset) * pi/2), T = num_timesteps, every beta at most max_beta."""

    def __init__(self, *, num_timesteps: int, offset: float, max_beta: float) -> None:
        time = np.arange(num_timesteps + 1, dtype=np.float64) / num_timesteps
        alpha_bar = np.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
        super().__init__(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], max_beta))
