"""The first stage: the autoencoder, whose latents the others diffuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.config import Option
from zoomldm.errors import UserError
from zoomldm.stages.base import Stage, WeightSource, file_fault
from zoomldm.stages.packed import REFERENCE, PackedModel, shipped

if TYPE_CHECKING:
    from zoomldm.data.manifest import Manifest
    from zoomldm.model.autoencoder import Autoencoder
    from zoomldm.model.trainable import Trainable
    from zoomldm.sampling.compute import Compute
    from zoomldm.sampling.training_pictures import TrainingPictures


SIZES = (
    "channels",
    "channel_mult",
    "num_res_blocks",
    "middle_attention",
    "latent_channels",
    "num_codes",
    "norm_groups",
)
"""Keys that the network's weights depend on."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage(Stage):
    """An autoencoder of patches.

    Attributes:
        network: its class; channels … norm_groups: sizes of zoomldm.model.autoencoder.VQAutoencoder.
        num_codes: of the codebook; None for a network that has none.
        loss: the class that trains it, and its weights.
        autoencoder: what to start from: a file of published weights, or ``reference``, the autoencoder that ships.
    """

    kind = "autoencoder"

    network: Option
    channels: int
    channel_mult: Sequence[int]
    num_res_blocks: int
    middle_attention: bool
    num_codes: int | None
    norm_groups: int
    loss: Option
    autoencoder: WeightSource

    def lacking(self, manifest: Manifest | None) -> Iterator[str]:
        if self._shipped:
            yield from self._misfit(self._shipped)
        else:
            yield from file_fault("autoencoder.weights", self.autoencoder.weights, "a published autoencoder")
        if self._perceptual:
            weights = self._perceptual["weights"]
            yield from file_fault("model.loss.perceptual.weights", weights, "torchvision's VGG16 of ImageNet")

    @property
    def columns(self) -> tuple[str, ...]:
        return ("image",)

    def untrained(self) -> Autoencoder:
        """Build the autoencoder."""
        return autoencoder_of(self.network, vars(self))

    def build(self, manifest: Manifest) -> Trainable:
        from zoomldm.model.autoencoder_training import AutoencoderTraining
        from zoomldm.stages.published_autoencoder import init_autoencoder

        module, loss = self.untrained(), self.loss
        if self._shipped:
            print(self._shipped.start("autoencoder", module))
        elif self.autoencoder.weights:
            print(init_autoencoder(module, Path(self.autoencoder.weights).expanduser()))
            loss = replace(loss, section={**loss.section, "start_steps": None})  # the published codebook is the start
        if self._perceptual and not self._perceptual["weights"]:
            print("model.loss.perceptual.weights is null: the perceptual term is left out")
        training = loss.make(AutoencoderTraining, autoencoder=module)
        training.from_start = training.from_start and not self.autoencoder.weights
        return training

    @cached_property
    def _shipped(self) -> PackedModel | None:
        """The model that ships, where the training begins at its autoencoder."""
        return shipped() if self.autoencoder.weights == REFERENCE else None

    def _misfit(self, model: PackedModel) -> Iterator[str]:
        """Say where the network is another than the autoencoder of a packed model, or that its files are damaged."""
        try:
            theirs = model.part("autoencoder").config["model"]
        except UserError as error:
            yield str(error)
            return
        other = [f"{key}={theirs[key]}" for key in SIZES if theirs[key] != getattr(self, key)]
        if theirs["network"]["_target_"] != self.network.section["_target_"]:
            other.append(f"network={theirs['network']['_target_']}")
        if other:
            yield (
                f"autoencoder.weights={REFERENCE} does not fit model={self.name}: the autoencoder that ships has "
                f"{', '.join(other)}; train from nothing (autoencoder.weights=null), or take model=autoencoder_tiny"
            )

    @property
    def _perceptual(self) -> Mapping[str, Any] | None:
        return self.loss.section.get("perceptual")

    def pictures(
        self, trainable: Trainable, manifest: Manifest, *, folder: Path, seed: int, compute: Compute
    ) -> TrainingPictures | None:
        """Return reconstructions of held-out patches."""
        from zoomldm.sampling.training_pictures import TrainingPictures, reconstructions, shown_source

        return TrainingPictures(folder, shown_source(manifest, ("image",)), answer=reconstructions, seed=seed)


def autoencoder_of(network: Option, model: Mapping[str, Any]) -> Autoencoder:
    """Build an untrained autoencoder.

    Args:
        model: its sizes, as in ``conf/model/autoencoder.yaml``; other keys are not looked at.
    """
    from zoomldm.model.autoencoder import Autoencoder

    return network.make(
        Autoencoder,
        channels=model["channels"],
        mult=tuple(model["channel_mult"]),
        num_res_blocks=model["num_res_blocks"],
        latent_channels=model["latent_channels"],
        num_codes=model["num_codes"],
        attention=model["middle_attention"],
        norm_groups=model["norm_groups"],
    )
