"""`v`: velocity (Salimans and Ho, 2022), which is the noise where x is clean and the signal where x is noise."""

from torch import Tensor

from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule


class V(Prediction):
    """Predict v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0, whose error says as much of x0 at every timestep."""

    diffusers_name = "v_prediction"

    def target(self, schedule: NoiseSchedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar(t, x0)
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0

    def told(self, schedule: NoiseSchedule, x: Tensor, prediction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = schedule.alpha_bar(t, x)
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        return signal * x - noise * prediction, noise * x + signal * prediction

    def error_of_x0(self, snr: Tensor) -> Tensor:
        return snr + 1
