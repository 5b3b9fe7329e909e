"""Noise schedules: how much of the signal is left at each timestep.

    x_t = sqrt(alpha_bar_t) * x_0 + sqrt(1 - alpha_bar_t) * noise,   alpha_bar_t = prod_{s <= t} (1 - beta_s)

Betas are computed in float64 and kept in float32, as the original implementations do.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    """Hold the betas of a diffusion and the signal level that follows from them.

    The tables are buffers that move with the model and are not part of its state.
    """

    betas: Tensor
    alphas_cumprod: Tensor

    def __init__(self, betas: np.ndarray) -> None:
        super().__init__()
        betas = np.asarray(betas, dtype=np.float64)
        if betas.ndim != 1 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"betas must be a vector of values between 0 and 1, got shape {betas.shape}")
        self.register_buffer("betas", torch.from_numpy(betas).float(), persistent=False)
        self.register_buffer("alphas_cumprod", torch.from_numpy(np.cumprod(1.0 - betas)).float(), persistent=False)

    @property
    def num_timesteps(self) -> int:
        """Count the timesteps T; a timestep is 0 .. T-1."""
        return len(self.betas)

    def alpha_bar(self, t: Tensor, like: Tensor) -> Tensor:
        """Give alpha_bar at timesteps t (b,), shaped to multiply `like` (b, ...)."""
        return self.alphas_cumprod[t].reshape(-1, *[1] * (like.ndim - 1))

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Give x_t for x0 (b, ...), noise of the same shape and timesteps t (b,)."""
        alpha_bar = self.alpha_bar(t, x0)
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise

    def x0_from_eps(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Give the x0 which noise eps at timesteps t implies for x."""
        alpha_bar = self.alpha_bar(t, x)
        return (x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()

    def eps_from_x0(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """Give the noise which x0 at timesteps t implies for x."""
        alpha_bar = self.alpha_bar(t, x)
        return (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()


def scaled_linear(num_timesteps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195) -> NoiseSchedule:
    """Make the latent diffusion schedule: sqrt(beta) grows linearly (Rombach et al., 2022)."""
    return NoiseSchedule(np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_timesteps) ** 2)


def linear(num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Make the DDPM schedule: beta grows linearly (Ho et al., 2020)."""
    return NoiseSchedule(np.linspace(beta_start, beta_end, num_timesteps))


def squared_cosine(num_timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> NoiseSchedule:
    """Make the schedule whose alpha_bar is a squared cosine (Nichol and Dhariwal, 2021)."""
    time = np.arange(num_timesteps + 1, dtype=np.float64) / num_timesteps
    alpha_bar = np.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return NoiseSchedule(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], max_beta))
