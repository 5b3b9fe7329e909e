"""Toy patches and stand-ins for the models, so that the evaluation's laws are tested in seconds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from scipy.ndimage import gaussian_filter, zoom

from tests.helpers.options import make_solver
from tests.helpers.settings import make_ladder
from zoomldm.config import options_of
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.evaluation.bench import Bench, Plan
from zoomldm.evaluation.evaluator import Evaluator
from zoomldm.evaluation.metrics.base import Metric
from zoomldm.evaluation.protocols.strict import Strict
from zoomldm.evaluation.result import Evaluation
from zoomldm.evaluation.rows.base import Row
from zoomldm.features.stats import StatsDescriptor
from zoomldm.features.texture import TextureDescriptor
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.sampling.settings import Sampling

ONE_PROCESS = Fabric(accelerator="cpu", devices=1)
LADDER = make_ladder(patch_px=32, num_rungs=3)
CONF = Path(__file__).parents[2] / "conf"
PLAN = {"num_per_magnification": 150, "protocol": Strict(), "magnifications": None, "seed": 0, "batch_size": 64}
ALL_ROWS = ("halves", "held_out", "reconstructions", "oracle", "generated", "shuffled", "untrained")
ALL_METRICS = ("paired", "fidelity", "kid", "precision_recall", "memorisation")


def _made(group: str, base: type, names: tuple[str, ...] | list[str]) -> list[Any]:
    sections: dict[str, Any] = {}
    for name in names:
        sections |= yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    return [option.make(base) for option in options_of(group, sections).values()]


def make_rows(*names: str) -> list[Row]:
    """Make rows from conf/rows, all of them where none is named."""
    return _made("rows", Row, names or ALL_ROWS)


def make_metrics(*names: str) -> list[Metric]:
    """Make metrics from conf/metrics, all of them where none is named."""
    return _made("metrics", Metric, names or ALL_METRICS)


def toy_evaluator(
    folder: Path | None = None,
    *,
    rows: list[str] | tuple[str, ...] = (),
    model: Any = None,
    edm: Any = None,
    encoder: Any = None,
    untrained: Any = None,
    shipped: Any = None,
    source: Any = None,
    **plan: Any,
) -> Evaluator:
    """Evaluate stand-ins of the models on toy patches."""
    bench = Bench(
        generator=PatchGenerator(
            model or ToyModel(0.05),
            ToyAutoencoder(),
            edm=edm,
            sampling=Sampling(solver=make_solver(), steps=2, guidance_scale=1.75, guidance_interval=None),
        ),
        source=source or ToySource(),
        descriptors=[TextureDescriptor(), StatsDescriptor()],
        plan=Plan(**PLAN | plan),
        identity={"model": "m", "autoencoder": "a", "data": "d"},
        make_untrained=None if untrained is None else lambda: untrained,
        shipped=shipped,
        conditioned_on=encoder and encoder.name,
        encoder=encoder,
        folder=folder,
    )
    return Evaluator(bench, LADDER, rows=make_rows(*rows), metrics=make_metrics())


def synthesised_and_run(evaluator: Evaluator) -> Evaluation:
    """Make the patches as evaluate.py does, then measure."""
    evaluator.synthesise(ONE_PROCESS)
    return evaluator.run(run_name="toy")


def toy_patches(num: int, seed: int = 0) -> np.ndarray:
    """Draw pink-violet patches with structure at several scales, uint8 (num, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(num, 32, 32))
    fields = sum(w * gaussian_filter(noise, (0, s, s)) * s for s, w in ((0.6, 0.5), (2, 0.8), (5, 1.0)))
    contrast = rng.uniform(0.5, 1.5, (num, 1, 1))
    stain = np.array([55.0, 75.0, 35.0]) * rng.uniform(0.8, 1.2, (num, 1, 1, 3))
    base = np.array([190.0, 140.0, 190.0]) + rng.normal(0, 12, (num, 1, 1, 3))
    return np.clip(base - (fields * contrast)[..., None] * stain, 0, 255).round().astype(np.uint8)


def blurred(patches: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(patches.astype(np.float32), (0, sigma, sigma, 0)).round().astype(np.uint8)


class ToySource:
    """Patches of 3 magnifications; a patch's grid is the patch itself. Counts every read."""

    def __init__(self, num_train: int = 400, num_test: int = 120, num_patients: int = 6) -> None:
        self.sets = {
            (split, k): toy_patches(n, seed=10 * k + (split == "test"))
            for k in range(3)
            for split, n in (("train", num_train), ("test", num_test))
        }
        self.num_patients = num_patients

    def count(self, split: str, magnification: float) -> int:
        return len(self.sets[split, LADDER.rung_of(magnification).index])

    def num_lossless(self, split: str, magnification: float) -> int:
        return 0

    def batches(self, *, split, magnification, num, seed, columns, batch_size, skip=0, lossless=False):
        k = LADDER.rung_of(magnification).index
        chosen = self.sets[split, k][skip : skip + num]
        for start in range(0, num, batch_size):
            part = chosen[start : start + batch_size]
            pixels = torch.from_numpy(part.copy()).permute(0, 3, 1, 2)
            places = range(start, start + len(part))
            yield Batch(
                sample_number=torch.arange(len(part)),
                rung=torch.full((len(part),), k),
                keys=[f"slide{place}" for place in places],
                image=pixels if "image" in columns else None,
                grids=[GridGroup(torch.arange(len(part)), pixels.float())] if "grid" in columns else None,
                meta=[SimpleNamespace(patient=f"patient{place % self.num_patients}") for place in places],
            )


class ToyAutoencoder(torch.nn.Module):
    """Latents are the picture at half its side, a little blurred by coming back."""

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=2, mode="bilinear")


class ToyModel(torch.nn.Module):
    """Return the latents of the condition with noise of its own number; ``noise`` above 5 ignores the condition."""

    def __init__(self, noise: float, columns=("latent", "grid")) -> None:
        super().__init__()
        self.noise, self.columns, self.num_calls = noise, columns, 0

    def tokens(self, grids, rung):
        if grids is None:
            return torch.zeros(len(rung), 3, 16, 16)
        return torch.nn.functional.avg_pool2d(grids[0].values / 127.5 - 1, 2)

    def passes(self, guidance_scale):
        return 2

    def sample(self, tokens, sample_numbers, *, seed, solver, num_steps, guidance_scale, guidance_interval):
        self.num_calls += 1
        draws = [torch.Generator().manual_seed(seed + int(number)) for number in sample_numbers]
        noise = torch.stack([torch.randn(3, 16, 16, generator=draw) for draw in draws])
        return noise if self.noise > 5 else tokens + self.noise * noise


class ToyEDM(torch.nn.Module):
    """Return latents of patches that nobody trained on."""

    def sample(self, rung, sample_numbers, *, seed, solver, num_steps, guidance_scale, guidance_interval):
        pixels = torch.from_numpy(toy_patches(len(rung), seed=999)).permute(0, 3, 1, 2).float()
        return torch.nn.functional.avg_pool2d(pixels / 127.5 - 1, 2)


def interpolated(patches: np.ndarray) -> np.ndarray:
    """Halve and enlarge again: what a poor autoencoder does."""
    small = patches.reshape(len(patches), 16, 2, 16, 2, 3).mean((2, 4))
    return zoom(small, (1, 2, 2, 1), order=1).clip(0, 255).astype(np.uint8)
