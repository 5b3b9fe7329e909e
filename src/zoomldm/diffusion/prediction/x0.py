"""`x0`: the clean signal, as the paper's embedding diffusion model has it."""

from torch import Tensor

from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule


class X0(Prediction):
    """Predict the clean signal."""

    diffusers_name = "sample"

    def target(self, schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return x0

    def told(self, schedule: NoiseSchedule, x: Tensor, prediction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return prediction, schedule.eps_from_x0(x, prediction, t)

    def error_of_x0(self, snr: Tensor) -> Tensor:
        return snr.new_ones(snr.shape)
