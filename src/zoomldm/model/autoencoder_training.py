"""What the trainings of autoencoders share.

Legend: b batch, p patch side (px), c latent channels, h w latent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from zoomldm.config import Option
from zoomldm.data.batch import Batch
from zoomldm.data.pixels import to_float
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.reconstruction import ReconstructionLoss
from zoomldm.model.trainable import Trainable


@dataclass(frozen=True)
class Encoded:
    """What the decoder is shown `b c h w`, what the latents cost (b,), and scalars to log."""

    latents: Tensor
    cost: Tensor
    logged: dict[str, Tensor]


class AutoencoderTraining(Trainable):
    """Encode patches, decode them, and ask for their likeness.

    Args:
        mse_weight, edge_weight, contrast_weight, perceptual, adversarial: of ReconstructionLoss.

    Attributes:
        from_start: whether training begins at statistics of the first batch; False where trained weights go on.
    """

    kind = "autoencoder"
    columns = ("image",)
    from_start = True

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        mse_weight: float,
        edge_weight: float,
        contrast_weight: float,
        perceptual: Option | None,
        adversarial: Option | None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.reconstruction_loss = ReconstructionLoss(
            mse_weight=mse_weight,
            edge_weight=edge_weight,
            contrast_weight=contrast_weight,
            perceptual=perceptual,
            adversarial=adversarial,
        )
        self.steps_begun = 0
        self._is_first_of_step = False  # whether the next forward is the first of its step

    def before_step(self, step: int) -> None:
        self.steps_begun, self._is_first_of_step = step + 1, True

    def encoded(self, images: Tensor, batch: Batch, seed: int, *, tending: bool) -> Encoded:
        """Encode images `b 3 p p` in [-1, 1]; tending, in training's first forward of a step, unless weights go on."""
        raise NotImplementedError

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        images = to_float(batch.image)
        tending = self.training and self.from_start and self._is_first_of_step
        if tending and self.steps_begun == 1:
            self.autoencoder.start_from(images)
            take_from_first_rank(self.autoencoder.parameters())
        if tending:
            self._is_first_of_step = False
        encoded = self.encoded(images, batch, seed, tending=tending)
        reconstruction = self.autoencoder.decode_as_given(encoded.latents).float()
        loss, logged = self.reconstruction_loss(
            images, reconstruction, last_layer=self.autoencoder.last_layers[1].weight, step=self.steps_begun
        )
        return {"loss_per_sample": loss + encoded.cost, **logged, **encoded.logged}

    def sampling_model(self) -> Autoencoder:
        return self.autoencoder

    def extra_state(self) -> dict[str, Any]:
        return {"downsampling": self.autoencoder.downsampling, "latent_channels": self.autoencoder.latent_channels}


@torch.no_grad()
def take_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of rank 0, where there are several ranks."""
    if is_distributed():
        for tensor in tensors:
            distributed.broadcast(tensor.data, src=0)


def is_distributed() -> bool:
    """Say whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()
