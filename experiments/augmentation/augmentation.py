"""Do synthetic patches help a classifier, and does the EDM give the label that it is asked for?

    python experiments/augmentation/augmentation.py [root=.] [seeds=3] [out=experiments/augmentation]

Below ``root`` lie data/demo, data/demo_slides and runs, as `make demo` leaves them. What is missing is made first: the
table of labels, and an EDM with ``label=tissue`` for each seed. Writes results.json and results.png, and prints tables.

Legend: n patches, c classes, p patch side (px).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT_ROOT / "src")]

from zoomldm.cli import key_values, user_errors, whole_number  # noqa: E402
from zoomldm.commands.steps import Step, run_step  # noqa: E402
from zoomldm.config import option_of  # noqa: E402
from zoomldm.data.manifest import Manifest  # noqa: E402
from zoomldm.data.reader import SampleSource  # noqa: E402
from zoomldm.evaluation.errors import jackknife_error  # noqa: E402
from zoomldm.label.base import Label  # noqa: E402
from zoomldm.stages.trained import HowToSample, load_trained  # noqa: E402

MAGNIFICATION, FEW, SYNTHETIC = 5.0, 10, 100
"""Magnification; real patches a class that the classifier has; synthetic ones a class beside them."""
STEPS, BATCH, RATE = 300, 64, 2e-3
GUIDANCE = "sampling.guidance_scale=1.75"  # towards the label
ARMS = ("few real", "few real, turned", "synthetic", "few real and synthetic", "all real")


@dataclass(frozen=True)
class Patches:
    """Labelled patches: float32 (n, 3, p, p) in [-1, 1], int64 (n,) of classes, and whose each is."""

    images: Tensor
    classes: Tensor
    patients: np.ndarray

    def __getitem__(self, index: Tensor) -> Patches:
        return Patches(self.images[index], self.classes[index], self.patients[index.numpy()])


def real_patches(root: Path, split: str) -> tuple[Patches, tuple[str, ...]]:
    """Read the labelled patches of a split, and the names of the classes."""
    manifest = Manifest.load(root)
    source = SampleSource(manifest, split=split, columns=("image", "meta"), magnifications=[MAGNIFICATION])
    rung = manifest.ladder.rung_of(MAGNIFICATION).index
    count = int(source.counts[rung])
    batch = source.read(np.full(count, rung), np.arange(count))
    labels = option_of("label", "class", file=str(root / "tissue.csv"), column="tissue").make(Label).read()
    told = torch.from_numpy(labels.told(batch.meta))
    patients = np.array([meta.patient for meta in batch.meta])
    found = Patches(batch.image.float() / 127.5 - 1, told[:, 1:].argmax(1), patients)
    return found[torch.where(told[:, 0] == 1)[0]], labels.names


def synthetic_patches(runs: Path, edm: str, names: Sequence[str], seed: int) -> Patches:
    """Draw patches of each class by an EDM that was told labels."""
    trained = load_trained(runs, "zoomldm_tiny-demo-film", edm=edm, wants_edm=True)
    generator = trained.generator(HowToSample(seed=seed))
    rung, made = trained.manifest.ladder.rung_of(MAGNIFICATION).index, []
    for number, name in enumerate(names):
        places = [10**6 * number + place for place in range(SYNTHETIC)]
        made.append(generator.from_tokens(generator.edm_tokens(rung, places, name), places, rung))
    images = torch.from_numpy(np.concatenate(made)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Patches(images, torch.arange(len(names)).repeat_interleave(SYNTHETIC), np.array(["none"] * len(images)))


def few_of(patches: Patches, num: int, seed: int) -> Patches:
    """Choose ``num`` patches of each class."""
    order = torch.randperm(len(patches.classes), generator=torch.Generator().manual_seed(seed))
    chosen = [order[patches.classes[order] == one][:num] for one in patches.classes.unique()]
    return patches[torch.cat(chosen)]


def classifier(num_classes: int) -> nn.Sequential:
    """Build a small convolutional classifier of 32 px patches."""
    layers: list[nn.Module] = []
    for into, out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def trained_on(sets: Sequence[Patches], *, num_classes: int, seed: int, turned: bool = False) -> nn.Sequential:
    """Train a classifier for STEPS on equal parts of each set, and of each class within it."""
    torch.manual_seed(seed)
    model = classifier(num_classes).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    weights = [1 / torch.bincount(one.classes, minlength=num_classes)[one.classes] for one in sets]
    for _ in range(STEPS):
        drawn = [one[torch.multinomial(w, BATCH // len(sets), replacement=True)] for one, w in zip(sets, weights)]
        images = torch.cat([one.images for one in drawn])
        if turned:
            images = torch.rot90(images, int(torch.randint(4, ())), (2, 3))
            images = images.flip(3) if torch.rand(()) < 0.5 else images
        loss = nn.functional.cross_entropy(model(images), torch.cat([one.classes for one in drawn]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return model.eval()


@torch.no_grad()
def confusion(model: nn.Sequential, patches: Patches, num_classes: int) -> np.ndarray:
    """Return how many patches of each class are found to be each other, float (patients, c, c), by patient."""
    found = torch.cat([model(part).argmax(1) for part in patches.images.split(256)])
    table = np.zeros((len(set(patches.patients)), num_classes, num_classes))
    _, patient = np.unique(patches.patients, return_inverse=True)
    np.add.at(table, (patient, patches.classes.numpy(), found.numpy()), 1)
    return table


def recalls(table: np.ndarray) -> np.ndarray:
    """Return the part of each class that is found to be it, (c,), of a table (c, c)."""
    return np.diagonal(table) / table.sum(1).clip(1)


def balanced(table: np.ndarray) -> float:
    """Return the mean recall of a table (c, c)."""
    return float(recalls(table).mean())


def with_error(tables: np.ndarray, figure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Return a figure averaged over seeds and its standard error over patients and seeds.

    Args:
        tables: (seeds, patients, …); figure: of one seed's tables, summed over patients.
    """

    def over(kept: np.ndarray) -> list[float]:
        return [figure(one[kept].sum(0)) for one in tables]

    num = tables.shape[1]
    values = over(np.ones(num, bool))
    left_out = [float(np.mean(over(np.arange(num) != one))) for one in range(num)]
    of_patients = jackknife_error(left_out) ** 2 if num > 1 else 0.0
    of_seeds = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(np.sqrt(of_patients + of_seeds))


def one_seed(root: Path, edm: str, seed: int) -> tuple[dict[str, np.ndarray], Patches, Patches]:
    """Train every arm with one seed; return tables by arm, the synthetic patches and the held-out ones."""
    (train, names), (test, _) = (real_patches(root / "data" / "demo", split) for split in ("train", "test"))
    few, synthetic = few_of(train, FEW, seed), synthetic_patches(root / "runs", edm, names, seed)
    sets = dict(zip(ARMS, ([few], [few], [synthetic], [few, synthetic], [train])))
    tables = {}
    for arm, given in sets.items():
        model = trained_on(given, num_classes=len(names), seed=seed, turned="turned" in arm)
        tables[arm] = confusion(model, test, len(names))
    tables["asked"] = confusion(model, synthetic, len(names))
    return tables, synthetic, test


def made_ready(root: Path, seeds: int) -> list[str]:
    """Make the labels and the EDMs that are missing; return the EDMs' names by seed."""
    data, slides = root / "data" / "demo", root / "data" / "demo_slides"
    if not (data / "tissue.csv").is_file():
        run_step(Step("labels", ("data_prep/demo/labels.py", f"data={data}", f"slides={slides}"), "tissue.csv"))
    names = [f"edm_tissue-seed{seed}" for seed in range(seeds)]
    for seed, name in enumerate(names):
        words = (f"seed={seed}", f"run_name={name}", f"paths.root={root}", "tracking=none", "fabric=cpu")
        what = ("src/train.py", "model=edm_tiny", "label=tissue", GUIDANCE, "data=demo", f"data.root={data}")
        run_step(Step("embedding diffusion model", (*what, *words), name))
    return names


def main(argv: Sequence[str]) -> None:
    """Run the experiment and say what came of it."""
    given = key_values(argv, ("root", "seeds", "out"))
    root, seeds = Path(given.get("root", PROJECT_ROOT)).resolve(), whole_number("seeds", given.get("seeds", "3"), 1)
    out, began = Path(given.get("out", Path(__file__).parent)), time.process_time()
    out.mkdir(parents=True, exist_ok=True)
    edms = made_ready(root, seeds)
    _, names = real_patches(root / "data" / "demo", "test")
    runs = [one_seed(root, edm, seed) for seed, edm in enumerate(edms)]
    tables = {arm: np.stack([found[arm] for found, _, _ in runs]) for arm in (*ARMS, "asked")}
    figures = {arm: with_error(tables[arm], balanced) for arm in ARMS}
    for arm, (value, error) in figures.items():
        both = np.stack([tables[arm], tables[ARMS[0]]], 2)
        gap = with_error(both, lambda pair: balanced(pair[0]) - balanced(pair[1]))
        print(f"| {arm} | {value:.3f} ± {error:.3f} | {gap[0]:+.3f} ± {gap[1]:.3f} |")
    for row, name in enumerate(names):
        asked, real = (tables[key].sum((0, 1))[row] for key in ("asked", "all real"))
        found = " | ".join(f"{part:.0%}" for part in asked / asked.sum())
        rate = with_error(tables["all real"], lambda table, row=row: float(recalls(table)[row]))
        own = with_error(tables["asked"], lambda table, row=row: float(recalls(table)[row]))
        print(f"| {name} | {found} | {own[0]:.2f} ± {own[1]:.2f} | {rate[0]:.2f} ± {rate[1]:.2f} ({real.sum():.0f}) |")
    kept = {arm: table.tolist() for arm, table in tables.items()}
    about = {"classes": names, "balanced accuracy": figures, "cpu_s": time.process_time() - began}
    (out / "results.json").write_text(json.dumps(about | {"tables": kept}) + "\n")
    draw(out / "results.png", names, tables["asked"].sum((0, 1)), *runs[0][1:])


def draw(path: Path, names: Sequence[str], asked: np.ndarray, synthetic: Patches, test: Patches) -> None:
    """Draw patches of each asked label beside real held-out ones, and the confusion matrix."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), gridspec_kw={"width_ratios": [10, 10, 5]})
    for axis, patches, title in ((axes[0], synthetic, "asked for"), (axes[1], test, "real, held out")):
        rows = [torch.cat([*few_of(patches, 10, 0).images[one * 10 : one * 10 + 10]], 2) for one in range(len(names))]
        axis.imshow(((torch.cat(rows, 1) + 1) / 2).permute(1, 2, 0).clip(0, 1).numpy(), interpolation="nearest")
        axis.set_yticks([16 + 32 * one for one in range(len(names))], names)
        axis.set_xticks([])
        axis.set_title(title)
    shares = asked / asked.sum(1, keepdims=True)
    axes[2].imshow(shares, cmap="Purples", vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes[2].text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", color=colour, fontsize=8)
    axes[2].set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes[2].set_yticks(range(len(names)), names)
    axes[2].set_title("asked → found")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
