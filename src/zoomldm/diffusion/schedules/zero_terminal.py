"""`zero_terminal`: the scaled linear schedule, stretched until its last timestep is noise alone (Lin et al., 2024)."""

from __future__ import annotations

import numpy as np

from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.schedules.scaled_linear import scaled_linear_betas


class ZeroTerminal(NoiseSchedule):
    """sqrt(alpha_bar_t) of `ScaledLinear`, moved and stretched so that the first stays and the last is 0.

    The noise in x says nothing of the signal there, so that it cannot be what is predicted.
    """

    ends_in_noise = True

    def __init__(self, *, num_timesteps: int, beta_start: float, beta_end: float) -> None:
        signal = np.sqrt(np.cumprod(1 - scaled_linear_betas(num_timesteps, beta_start, beta_end)))
        alpha_bar = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2
        super().__init__(1 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]]))
