"""Pictures of a run while it trains: the same held-out patches every time, beside what the model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.model.autoencoder import to_float
from zoomldm.model.trainable import Trainable
from zoomldm.sampling.generator import PatchGenerator, to_images
from zoomldm.sampling.pictures import Column, panel

NUM_PATCHES = 3
"""Of each magnification."""


class TrainingPictures:
    """Write samples/step-<n>.png: for each magnification the reference patches and the model's answers.

    Args:
        generator: whose model is the trainable itself; None for an autoencoder, whose answers are reconstructions.
    """

    def __init__(
        self, folder: Path, source: SampleSource, *, generator: PatchGenerator | None = None, seed: int = 0
    ) -> None:
        self.folder, self.source, self.generator, self.seed = Path(folder), source, generator, seed

    def __call__(self, trainable: Trainable, step: int) -> Path:
        """Draw the picture of a step with the weights that are in place."""
        columns = []
        for rung in np.flatnonzero(self.source.counts).tolist():
            found = self.source.ladder[rung]
            _, index = self.source.eval_samples(found.magnification, NUM_PATCHES, self.seed)
            batch = self.source.read(np.full(len(index), rung), index)
            references = batch.image.permute(0, 2, 3, 1).numpy()
            columns += [
                Column("held out", list(references), found.label),
                Column("model", list(self._answers(trainable, batch)), found.label),
            ]
        path = self.folder / f"step-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        panel(columns, title=f"step {step}").save(path)
        return path

    @torch.no_grad()
    def _answers(self, trainable: Trainable, batch: Batch) -> np.ndarray:
        if self.generator is not None:
            return self.generator.from_batch(batch, range(len(batch)))
        autoencoder = trainable.sampling_model()
        device = next(autoencoder.parameters()).device
        return to_images(autoencoder.decode(autoencoder.encode(to_float(batch.image.to(device)))))


def shown_source(manifest: Manifest, columns: Sequence[str]) -> SampleSource:
    """Return the held-out patches, those of training where nothing is held out."""
    split = "test" if any(manifest.counts.get("test", {}).values()) else "train"
    return SampleSource(manifest, split=split, columns=columns)
