"""What every noise schedule is: how much of the signal is left at each timestep.

    x_t = sqrt(alpha_bar_t) * x_0 + sqrt(1 - alpha_bar_t) * noise,   alpha_bar_t = prod_{s <= t} (1 - beta_s)

Betas are computed in float64 and kept in float32, as the original implementations do. Legend: b batch.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    """Hold the betas of a diffusion and the signal level that follows from them; subclasses compute the betas.

    The tables are buffers that move with the model and are not part of its state.

    Attributes:
        ends_in_noise: whether nothing of the signal is left at the last timestep.
    """

    ends_in_noise: ClassVar[bool] = False

    betas: Tensor
    alphas_cumprod: Tensor

    def __init__(self, betas: np.ndarray) -> None:
        super().__init__()
        betas = np.asarray(betas, dtype=np.float64)
        inside = (betas > 0) & (betas < 1)
        if betas.ndim != 1 or not (inside[:-1].all() and (inside[-1] or (self.ends_in_noise and betas[-1] == 1))):
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

    def diffusers_arguments(self) -> dict[str, Any]:
        """Return the arguments that give a scheduler of diffusers these betas; subclasses may have a name for them."""
        return {"num_train_timesteps": self.num_timesteps, "trained_betas": self.betas.tolist()}
