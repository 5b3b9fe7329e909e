"""Pictures of a run while it trains: the same held-out patches every time, beside what the model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.model.trainable import Trainable
from zoomldm.sampling.generator import images_of, reconstruct
from zoomldm.sampling.pictures import Column, panel

NUM_PATCHES = 3
"""Of each magnification."""

Answer = Callable[[Trainable, Batch], np.ndarray]
"""From what is trained and a batch to patches uint8 (b, p, p, 3)."""


def shown_source(manifest: Manifest, columns: Sequence[str]) -> SampleSource:
    """Return the held-out patches, those of training where nothing is held out."""
    split = "test" if any(manifest.counts.get("test", {}).values()) else "train"
    return SampleSource(manifest, split=split, columns=columns)


@torch.no_grad()
def reconstructions(trainable: Trainable, batch: Batch) -> np.ndarray:
    """Encode and decode a batch's patches, uint8 (b, p, p, 3): the answers of an autoencoder in training."""
    autoencoder = trainable.sampling_model()
    return reconstruct(autoencoder, batch.image.to(next(autoencoder.parameters()).device))


class TrainingPictures:
    """Write samples/step-<n>.png: for each magnification the reference patches and the model's answers.

    Args:
        source: of patches (``image``) and of what ``answer`` reads.
        answer: makes patches of a batch: reconstructions, or syntheses by a generator over the model in training.
        seed: which patches.
    """

    def __init__(self, folder: Path, source: SampleSource, *, answer: Answer, seed: int = 0) -> None:
        self.folder, self.source, self.answer, self.seed = Path(folder), source, answer, seed

    def __call__(self, trainable: Trainable, step: int) -> Path:
        """Draw the picture of a step with the weights that are in place."""
        columns = []
        for rung in np.flatnonzero(self.source.counts).tolist():
            found = self.source.ladder[rung]
            _, index = self.source.eval_samples(found.magnification, NUM_PATCHES, self.seed)
            batch = self.source.read(np.full(len(index), rung), index)
            columns += [
                Column("held out", list(images_of(batch)), found.label),
                Column("model", list(self.answer(trainable, batch)), found.label),
            ]
        path = self.folder / f"step-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        panel(columns, title=f"step {step}").save(path)
        return path
