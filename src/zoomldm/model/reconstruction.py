"""What every autoencoder's training asks of a reconstruction.

Legend: b batch, p patch side (px).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.config import Option
from zoomldm.model.adversarial import Adversary
from zoomldm.model.perceptual import Perceptual


class ReconstructionLoss(nn.Module):
    """Weigh the errors of a reconstruction beside its absolute error, all in units of [-1, 1].

    Args:
        mse_weight: of the squared error.
        edge_weight: of the absolute error of the differences between neighbouring pixels, which resists blur.
        contrast_weight: of the absolute error of the local standard deviation (4 x 4 px). Pixel errors alone are least
            where detail that the latent cannot hold is left out; this asks for as much of it as there was.
        perceptual: a Perceptual; None, or one without a file of weights, for none.
        adversarial: an Adversary; None for none.
    """

    def __init__(
        self,
        *,
        mse_weight: float,
        edge_weight: float,
        contrast_weight: float,
        perceptual: Option | None,
        adversarial: Option | None,
    ) -> None:
        super().__init__()
        self.mse_weight = mse_weight
        self.edge_weight = edge_weight
        self.contrast_weight = contrast_weight
        self.perceptual = perceptual.make(Perceptual) if perceptual and perceptual.arguments["weights"] else None
        self.adversary = adversarial.make(Adversary) if adversarial else None

    def forward(
        self, images: Tensor, reconstruction: Tensor, *, last_layer: nn.Parameter, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Give the loss per sample (b,), and what is logged.

        Args:
            images, reconstruction: `b 3 p p` in [-1, 1], float32.
            last_layer: weight of the decoder's last layer, where the adversarial term is weighed.
            step: how many steps were begun; outside of training there is no adversarial term.
        """
        difference = reconstruction - images
        absolute, squared = difference.abs().flatten(1).mean(1), difference.square().flatten(1).mean(1)
        logged = {
            "absolute_error": absolute.mean().detach(),
            "psnr": (-10 * torch.log10(squared.detach() / 4)).mean(),
        }
        loss = absolute + self.mse_weight * squared
        if self.edge_weight:
            loss = loss + self.edge_weight * sum(difference.diff(dim=axis).abs().flatten(1).mean(1) for axis in (2, 3))
        if self.contrast_weight:
            contrast_error = _contrast(reconstruction) - _contrast(images)
            loss = loss + self.contrast_weight * contrast_error.abs().flatten(1).mean(1)
        if self.perceptual:
            loss = loss + self.perceptual(images, reconstruction)
        if self.adversary and self.training and torch.is_grad_enabled():
            more, of_adversary = self.adversary(images, reconstruction, loss=loss, last_layer=last_layer, step=step)
            loss, logged = loss + more, logged | of_adversary
        return loss, logged


def _contrast(images: Tensor) -> Tensor:
    """Give the standard deviation of each channel in overlapping windows of 4 x 4 px."""
    mean = functional.avg_pool2d(images, 4, 2)
    variance = functional.avg_pool2d(images.square(), 4, 2) - mean.square()
    return (variance.clamp(min=0) + 1e-4).sqrt()
