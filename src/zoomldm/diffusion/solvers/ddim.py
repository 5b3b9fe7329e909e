"""DDIM sampling without noise, eta = 0 (Song et al., 2021), by the conventions of latent-diffusion."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zoomldm.diffusion.guidance import Predict
from zoomldm.diffusion.schedules.base import NoiseSchedule


def ddim_timesteps(num_steps: int, num_timesteps: int = 1000) -> Tensor:
    """Choose the timesteps of a run, ascending int64 (num_steps,): equal strides from 0, then moved up by one."""
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps must lie between 1 and {num_timesteps}, got {num_steps}")
    timesteps = torch.arange(num_steps) * (num_timesteps // num_steps) + 1
    return timesteps.clamp(max=num_timesteps - 1).unique()


@torch.no_grad()
def ddim(
    predict: Predict,
    x_T: Tensor,
    schedule: NoiseSchedule,
    timesteps: Tensor,
    *,
    predicts: Literal["eps", "x0"] = "eps",
    last_alpha_bar: float | None = None,
) -> Tensor:
    """Follow the probability flow from noise x_T (b, ...) to a sample of the same shape.

    predict(x, t) gives the noise or the clean signal for x at timesteps t (b,). timesteps are visited from the last
    to the first, after which the signal level is last_alpha_bar (by default that of timestep 0, not 1).
    """
    if predicts not in ("eps", "x0"):
        raise ValueError(f"predicts must be eps or x0, got {predicts!r}")
    timesteps = timesteps.to(x_T.device)
    alpha_bars = schedule.alphas_cumprod.to(x_T.device)
    last = alpha_bars[:1] if last_alpha_bar is None else alpha_bars.new_tensor([last_alpha_bar])
    next_alpha_bars = torch.cat([last, alpha_bars[timesteps[:-1]]])
    x = x_T.float()
    for i in reversed(range(len(timesteps))):
        alpha_bar, next_alpha_bar = alpha_bars[timesteps[i]], next_alpha_bars[i]
        prediction = predict(x, timesteps[i].expand(len(x))).float()
        if predicts == "eps":
            eps, x0 = prediction, (x - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()
        else:
            eps, x0 = (x - alpha_bar.sqrt() * prediction) / (1 - alpha_bar).sqrt(), prediction
        x = next_alpha_bar.sqrt() * x0 + (1 - next_alpha_bar).sqrt() * eps
    return x
