"""The adversarial term of an autoencoder's training, as in VQGAN and latent diffusion (taming-transformers).

Legend: b batch, p patch side (px).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

MOST = 1e4
"""Bound of the adaptive weight (taming-transformers, ``calculate_adaptive_weight``)."""


class PatchDiscriminator(nn.Sequential):
    """Judge overlapping windows of images (PatchGAN, Isola et al. 2017).

    Args:
        channels: of the first layer; each further one has twice as many, up to eight times.
        num_layers: that halve the image; a window has 70 px with 3 of them, 34 px with 2, 16 px with 1.
    """

    def __init__(self, *, channels: int, num_layers: int) -> None:
        widths = [channels * min(2**layer, 8) for layer in range(num_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for number, (before, width) in enumerate(pairwise(widths), start=1):
            stride = 2 if number < num_layers else 1
            layers += [nn.Conv2d(before, width, 4, stride, 1, bias=False)]
            # Statistics of the batch at hand alone: it is never asked outside of training.
            layers += [nn.BatchNorm2d(width, track_running_stats=False), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)


class Adversary(nn.Module):
    """Give the adversarial loss of a reconstruction and the hinge loss of the discriminator that judges it.

    Both in one sum for one optimiser: the first sees the discriminator's weights as constants, the second the
    reconstruction. The first is weighed so that its gradient at the decoder's last layer is that of the reconstruction
    loss, times ``weight``.

    Args:
        weight: see above; latent diffusion has 0.75 for VQ-f4, 0.5 for KL-f4.
        start_steps: steps before it begins, 0 for VQ-f4, 50,001 for KL-f4.
        channels, num_layers: of the discriminator; 64 and 3.
    """

    def __init__(self, *, weight: float, start_steps: int, channels: int, num_layers: int) -> None:
        super().__init__()
        self.weight = weight
        self.start_steps = start_steps
        self.discriminator = PatchDiscriminator(channels=channels, num_layers=num_layers)

    def forward(
        self, images: Tensor, reconstruction: Tensor, *, loss: Tensor, last_layer: nn.Parameter, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Give what is added to a loss per sample (b,), and what is logged.

        Args:
            images, reconstruction: `b 3 p p` in [-1, 1].
            loss: the reconstruction's, (b,).
            last_layer: weight of the decoder's last layer.
            step: how many steps were begun.
        """
        if step <= self.start_steps:  # every parameter takes part, which several processes need
            idle = sum(parameter.sum() for parameter in self.parameters())
            return loss.new_zeros(len(loss)) + 0 * idle, {}
        constant = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        fooling = -functional_call(self.discriminator, constant, (reconstruction,)).flatten(1).mean(1)
        weight = self.weight * _gradient_ratio(loss.mean(), fooling.mean(), last_layer)
        real = self.discriminator(images).flatten(1)
        fake = self.discriminator(reconstruction.detach()).flatten(1)
        judging = 0.5 * (functional.relu(1 - real).mean(1) + functional.relu(1 + fake).mean(1))
        logged = {
            "adversarial_weight": weight,
            "discriminator_real": real.detach().mean(),
            "discriminator_fake": fake.detach().mean(),
        }
        return weight * fooling + judging, logged


def _gradient_ratio(loss: Tensor, adversarial: Tensor, last_layer: nn.Parameter) -> Tensor:
    """Give the ratio of the norms of two losses' gradients at a layer, without a gradient of its own."""
    norms = [torch.autograd.grad(one, last_layer, retain_graph=True)[0].norm() for one in (loss, adversarial)]
    return (norms[0] / (norms[1] + 1e-4)).clamp(0, MOST).detach()
