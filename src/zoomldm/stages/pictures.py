"""Pictures of a run while it trains: the same held-out patches every time, beside what the model makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoomldm.data.batch import Batch
from zoomldm.data.reader import SampleSource
from zoomldm.model.trainable import Trainable

NUM_PATCHES = 3
"""Of each magnification."""


class TrainingPictures:
    """Write samples/step-<n>.png: for each magnification the reference patches and the model's answers.

    generator: of zoomldm/evaluation/generator.py, whose model is the trainable itself; None for an autoencoder, whose
    answers are reconstructions.
    """

    def __init__(self, folder: Path, source: SampleSource, *, generator: Any = None, seed: int = 0) -> None:
        self.folder, self.source, self.generator, self.seed = Path(folder), source, generator, seed

    def __call__(self, trainable: Trainable, step: int) -> Path:
        """Draw the picture of a step with the weights that are in place."""
        from zoomldm.sampling.pictures import Column, panel

        columns = []
        for rung in np.flatnonzero(self.source.counts).tolist():
            found = self.source.ladder[rung]
            _, index = self.source.eval_samples(found.magnification, NUM_PATCHES, self.seed)
            batch = self.source.read(np.full(len(index), rung), index)
            references = batch.image.permute(0, 2, 3, 1).numpy()
            answers = self._answers(trainable, batch, references)
            columns += [
                Column("held out", list(references), found.label),
                Column("model", list(answers), found.label),
            ]
        path = self.folder / f"step-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        panel(columns, title=f"step {step}").save(path)
        return path

    @torch.no_grad()
    def _answers(self, trainable: Trainable, batch: Batch, references: np.ndarray) -> np.ndarray:
        from zoomldm.model.autoencoder import to_float
        from zoomldm.sampling.generator import to_images

        if self.generator is not None:
            return self.generator.from_batch(batch, range(len(batch)))
        autoencoder = trainable.sampling_model()
        device = next(autoencoder.parameters()).device
        return to_images(autoencoder.decode(autoencoder.encode(to_float(batch.image.to(device)))))


def make_pictures(cfg: Any, manifest: Any, folder: Path, trainable: Trainable, device: Any) -> TrainingPictures | None:
    """Build the pictures of a run: reconstructions of an autoencoder, syntheses of ZoomLDM; none of an EDM.

    An embedding diffusion model makes tokens, which only its ZoomLDM turns into patches; evaluation does that.
    """
    from zoomldm.build import load_autoencoder, solver_of
    from zoomldm.sampling.generator import PatchGenerator

    split = "test" if any(manifest.counts.get("test", {}).values()) else "train"
    if cfg.model.kind == "edm" or "image" not in manifest.columns:
        return None
    if cfg.model.kind == "autoencoder":
        return TrainingPictures(folder, SampleSource(manifest, split=split, columns=("image",)), seed=cfg.seed)
    columns = tuple(dict.fromkeys(["image", *(c for c in trainable.columns if c != "latent")]))
    generator = PatchGenerator(
        trainable,
        load_autoencoder(cfg).module,
        solver=solver_of(cfg),
        steps=cfg.sampling.steps,
        guidance_scale=cfg.sampling.guidance_scale,
        seed=cfg.seed,
        device=device,
    )
    return TrainingPictures(
        folder, SampleSource(manifest, split=split, columns=columns), generator=generator, seed=cfg.seed
    )
