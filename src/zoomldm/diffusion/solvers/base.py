"""What every solver is: the way back from noise to a sample, one prediction a step.

Legend: b batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from zoomldm.diffusion.guidance import Predict
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x (b, ...), timestep ()) -> (x0, eps), each (b, ...): what the network sees in x, told both ways."""
Noise = Callable[[int], Tensor]
"""Index of a step, from 0 -> fresh standard noise (b, ...); keyed by sample and step, so that batches don't matter."""


class Solver(ABC):
    """Follow a diffusion back in time; subclasses say which timesteps they visit and how they step."""

    def __repr__(self) -> str:
        """Say the class and its arguments: what tells one solver's samples from another's."""
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in vars(self).items())})"

    @abstractmethod
    def timesteps(self, num_steps: int, num_timesteps: int) -> Tensor:
        """Choose the timesteps to visit, ascending int64, at most num_steps of 0 .. num_timesteps - 1."""

    @abstractmethod
    def follow(
        self, denoise: Denoise, x: Tensor, timesteps: Tensor, alpha_bars: Tensor, last: Tensor, noise: Noise
    ) -> Tensor:
        """Step from noise x (b, ...) to a sample.

        Args:
            timesteps: in the order in which they are visited, (s,), on the device of x.
            alpha_bars: the signal level at each of them, float32 (s,).
            last: the signal level of timestep 0, float32 ().
        """

    @torch.no_grad()
    def solve(
        self,
        predict: Predict,
        x_T: Tensor,
        schedule: NoiseSchedule,
        *,
        num_steps: int,
        prediction: Prediction,
        noise: Noise | None = None,
    ) -> Tensor:
        """Turn standard noise x_T (b, ...) into a sample of the same shape, float32.

        Args:
            predict: (x, timesteps (b,)) to what `prediction` says of it: the noise in x, for example.
            noise: fresh noise for each step of a stochastic solver; others never call it.

        Raises:
            ValueError: a number of steps that this solver cannot take, or no noise for a stochastic one.
        """

        def denoise(x: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
            t = timestep.expand(len(x))
            return prediction.told(schedule, x, predict(x, t).float(), t)

        timesteps = self.timesteps(num_steps, schedule.num_timesteps).flip(0).to(x_T.device)
        levels = schedule.alphas_cumprod.to(x_T.device)
        return self.follow(denoise, x_T.float(), timesteps, levels[timesteps], levels[0], noise or _no_noise)


def _no_noise(step: int) -> Tensor:
    raise ValueError("this solver draws fresh noise at every step: give solve(noise=...)")
