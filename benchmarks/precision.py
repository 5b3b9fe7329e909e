"""How far patches of the same seeds lie apart when computed in another way: `python benchmarks/precision.py RUN`

The reference is float32 as sample.py computes on a CPU. Against it: bf16-mixed (what a GPU runs in), guidance by two
passes a step instead of one doubled batch, and weights that are not channels-last. For scale: another seed.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from zoomldm.diffusion.guidance import ConditionalPredict, Predict, guide
from zoomldm.evaluation.distances import frechet
from zoomldm.features.texture import TextureDescriptor
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.generator import sample_number
from zoomldm.sampling.sources.oracle import OracleSource
from zoomldm.stages.trained import HowToSample, TrainedModels, load_trained

PLAIN = Compute(channels_last=True)
WAYS: dict[str, tuple[Compute, int]] = {
    "float32": (PLAIN, 0),
    "bf16-mixed": (Compute(channels_last=True, autocast=True), 0),
    "two passes a step": (PLAIN, 0),
    "not channels-last": (Compute(), 0),
    "another seed": (PLAIN, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a ZoomLDM run")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, help="its data set, where it lies elsewhere now")
    parser.add_argument("--patches", type=int, default=64, help="of each magnification")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision.json"))
    chosen = parser.parse_args()
    descriptor, found = TextureDescriptor(), {}
    for name, (compute, seed) in WAYS.items():  # models are brought to each way in turn, so each loads its own
        trained = load_trained(chosen.runs, chosen.run, data_root=chosen.data, wants_edm=False)
        with mock.patch("zoomldm.model.zoomldm.guided", two_passes) if name == "two passes a step" else nullcontext():
            patches = drawn(trained, compute, seed, chosen.patches)
        if name == "float32":
            reference, vectors = patches, descriptor(patches)
            continue
        difference = np.abs(patches.astype(int) - reference)
        found[name] = {
            "mean_levels": float(difference.mean()),
            "max_levels": int(difference.max()),
            "fd_texture": frechet(descriptor(patches), vectors),
        }
        print(
            f"{len(patches)} patches, {name}: {difference.mean():.4f} of 255 levels apart on average, "
            f"{difference.max()} at most; fd_texture {found[name]['fd_texture']:.3g}",
            flush=True,
        )
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"date": date.today().isoformat(), "torch": torch.__version__, "patches": len(reference)}
    chosen.out.write_text(json.dumps(facts | found, indent=2) + "\n")


def drawn(trained: TrainedModels, compute: Compute, seed: int, num: int) -> np.ndarray:
    """Draw patches of every magnification from the conditions of real ones."""
    generator = trained.generator(HowToSample(compute=compute, seed=seed))
    source = OracleSource(name="oracle", split="train", manifest=trained.manifest, seed=0)
    patches = []
    for rung in trained.manifest.ladder.rungs:
        count = min(num, source.count(rung))
        batch = source.read(rung, 0, count, with_grids=generator.uses_grid)
        patches.append(generator.from_batch(batch, [sample_number(rung, place) for place in range(count)]))
    return np.concatenate(patches)


def two_passes(predict: ConditionalPredict, condition: Tensor, null_condition: Tensor, scale: float) -> Predict:
    """Guide as `diffusion.guidance.guided`, the two predictions one after the other."""
    return lambda x, t: guide(predict(x, t, condition), predict(x, t, null_condition), scale)


if __name__ == "__main__":
    main()
