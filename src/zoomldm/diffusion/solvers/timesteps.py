"""Which of a schedule's timesteps a solver visits, ascending."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomldm.errors import ConfigError


def leading(num_steps: int, num_timesteps: int) -> Tensor:
    """Choose equal strides from 0, moved up by one, as latent-diffusion does; int64 (num_steps,).

    Raises:
        ConfigError: no step, or more than there are timesteps.
    """
    _require(num_steps, 1, num_timesteps)
    timesteps = torch.arange(num_steps) * (num_timesteps // num_steps) + 1
    return timesteps.clamp(max=num_timesteps - 1).unique()


def even(num_steps: int, num_timesteps: int) -> Tensor:
    """Choose evenly from 0 to the last, both included; int64 (num_steps,). 200 of 1000 have strides of 5 and 6.

    Raises:
        ConfigError: a single step, or more than there are timesteps.
    """
    _require(num_steps, 2, num_timesteps)
    stride = (num_timesteps - 1) / (num_steps - 1)
    return torch.tensor([round(i * stride) for i in range(num_steps)])


def _require(num_steps: int, low: int, high: int) -> None:
    if not low <= num_steps <= high:
        raise ConfigError(
            f"{num_steps} sampling steps (num_steps): expected {low} to {high}, the timesteps of the noise schedule"
        )
