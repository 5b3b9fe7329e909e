"""What an export is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from zoomldm.data.manifest import Manifest
from zoomldm.evaluation.result import Evaluation
from zoomldm.evaluation.stored import stored_evaluations
from zoomldm.files import sha256_of
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.runs.run import Run
from zoomldm.weights.read import weight_file


@dataclass(frozen=True, kw_only=True)
class Part:
    """A trained model beside the ZoomLDM, with its run's configuration (none for published weights)."""

    module: nn.Module
    config: dict[str, Any] = field(default_factory=dict)
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """A ZoomLDM run with what it stands on.

    Attributes:
        step, config: of its checkpoint and run.
    """

    run: Run
    manifest: Manifest
    model: ZoomLDM
    config: dict[str, Any]
    step: int
    autoencoder: Part
    edm: Part | None = None

    @property
    def is_plain_vq(self) -> bool:
        """Whether diffusers' VQModel holds the autoencoder."""
        return type(self.autoencoder.module) is VQAutoencoder

    def evaluations(self) -> list[Evaluation]:
        """Return the run's evaluations of the exported checkpoint."""
        return [one for one in stored_evaluations(self.run.folder) if one.step == self.step]

    def published_starts(self) -> dict[str, str]:
        """Return what the weights started from: family of the file -> its hash, without the file's name."""
        found = {}
        given = {
            "U-Net started from published weights": self.config["unet"]["init"],
            "published autoencoder": self.config["autoencoder"]["weights"],
        }
        for name, path in given.items():
            if path:
                file = Path(path).expanduser()
                found[name] = sha256_of(weight_file(file)) if file.exists() else "not at hand any more"
        return found
