"""`eps`: the noise, as the paper and latent diffusion have it."""

from torch import Tensor

from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule


class Eps(Prediction):
    """Predict the noise in x."""

    diffusers_name = "epsilon"
    says_signal = False

    def target(self, schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise

    def told(self, schedule: NoiseSchedule, x: Tensor, prediction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return schedule.x0_from_eps(x, prediction, t), prediction

    def error_of_x0(self, snr: Tensor) -> Tensor:
        return snr
