"""What a network says of a noisy signal, and how its errors are weighed.

    x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps

Legend: b batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from zoomldm.diffusion.losses import squared_error
from zoomldm.diffusion.schedules.base import NoiseSchedule


class Prediction(ABC):
    """Tell what is predicted in training and what a prediction means in sampling.

    Args:
        min_snr_gamma: weigh the squared error of x0 by min(snr, gamma), snr = alpha_bar / (1 - alpha_bar) (Hang et al.,
            2023: 5), so that nearly clean samples do not outweigh the others; None: every timestep's error of what is
            predicted counts the same.
        snr_floor: with it, weigh by no less than this, so that very noisy samples, which decide colour and layout,
            still count; None: 0.

    Attributes:
        diffusers_name: ``prediction_type`` of diffusers' schedulers.
        says_signal: whether it says something of the signal where x is noise alone.
    """

    diffusers_name: ClassVar[str]
    says_signal: ClassVar[bool] = True

    def __init__(self, *, min_snr_gamma: float | None, snr_floor: float | None) -> None:
        if min_snr_gamma is not None and min_snr_gamma <= 0:
            raise ValueError(f"min_snr_gamma must be null or above 0, got {min_snr_gamma}")
        if snr_floor is not None and not (min_snr_gamma is not None and 0 <= snr_floor <= min_snr_gamma):
            raise ValueError(f"snr_floor={snr_floor}: expected null, or 0 to min_snr_gamma, which is {min_snr_gamma}")
        self.min_snr_gamma = min_snr_gamma
        self.snr_floor = snr_floor

    @abstractmethod
    def target(self, schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Give what the network should say: x0 and noise (b, ...), timesteps t (b,)."""

    @abstractmethod
    def told(self, schedule: NoiseSchedule, x: Tensor, prediction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Give (x0, eps), (b, ...) each, that a prediction for x at timesteps t (b,) means."""

    @abstractmethod
    def error_of_x0(self, snr: Tensor) -> Tensor:
        """Give how many times the squared error of x0 that of the prediction is, at signal-to-noise ratios (b,)."""

    def loss(self, schedule: NoiseSchedule, said: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Give the weighed squared error of what the network said (b, ...), float32 (b,)."""
        error = squared_error(said, self.target(schedule, x0, noise, t))
        if self.min_snr_gamma is None:
            return error
        alpha_bar = schedule.alphas_cumprod[t]
        snr = alpha_bar / (1 - alpha_bar)
        return error * snr.clamp(min=self.snr_floor, max=self.min_snr_gamma) / self.error_of_x0(snr)
