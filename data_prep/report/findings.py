"""What preparation found in a data set, slide by slide: its states, and figures and vectors of its patches.

Legend: n patches, g grids of one side S, r rows, D embedding width.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from data_prep.work.state import DoneSlide
from data_prep.work.store import SlideStore
from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.data.schema import SPLITS
from zoomldm.encoder.stats import FEATURE_NAMES, StatsEncoder
from zoomldm.features.base import Descriptor
from zoomldm.files import progress
from zoomldm.ladder import Rung
from zoomldm.sampling.generator import images_of

BATCH = 32
EMBEDDINGS = "embeddings"
STAIN = {
    "mean_h": "haematoxylin, density",
    "std_h": "haematoxylin, deviation within a patch",
    "mean_e": "eosin, density",
    "std_e": "eosin, deviation within a patch",
    "fraction_nucleus": "pixels dense in haematoxylin, part",
    "fraction_glass": "pixels of glass, part",
}
"""Which numbers of the encoder ``stats`` are told, and what they are called."""
PATCHES, PATCH_TISSUE = "patches of a slide", "tissue by the mask, part of a patch"


@dataclass(frozen=True)
class FoundPatch:
    """A patch: its figures by their names, its vectors (d,) by kind, its pixels."""

    figures: dict[str, float]
    vectors: dict[str, np.ndarray]
    pixels: np.ndarray


@dataclass
class FoundSlide:
    """A slide as preparation found it.

    Attributes:
        facts: figures of the slide, by their names.
        by_rung: means over its patches, by magnification; vectors: (n, d) by magnification and kind.
        example: a patch uint8 (p, p, 3) by magnification.
    """

    facts: dict[str, float]
    by_rung: dict[str, dict[str, float]]
    vectors: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    example: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, label: str, patches: Sequence[FoundPatch]) -> None:
        """Take in the patches of a magnification, one or more."""
        first = patches[0]
        means = {name: float(np.mean([one.figures[name] for one in patches])) for name in first.figures}
        self.by_rung[label] = self.by_rung.get(label, {}) | means
        self.vectors[label] = {kind: np.stack([one.vectors[kind] for one in patches]) for kind in first.vectors}
        self.example[label] = first.pixels


def found_in(
    manifest: Manifest, descriptors: Sequence[Descriptor], *, num_per_magnification: int, seed: int
) -> dict[str, FoundSlide]:
    """Return what was found in each slide that gave patches.

    Args:
        num_per_magnification: patches that are looked at, of each split.
    """
    slides = {}
    for entry in manifest.slides:
        counts, name = entry.get("counts") or {}, str(entry["slide"])
        if sum(counts.values()):
            state = SlideStore(Path(manifest.root), name).done()
            facts = facts_of(state, manifest.ladder.base_mpp) if state else {}
            slides[name] = FoundSlide(facts, {label: {PATCHES: count} for label, count in counts.items()})
    for rung in progress(manifest.ladder.rungs, label=manifest.name, unit="magnification"):
        rows = _rows(manifest, rung, descriptors, num=num_per_magnification, seed=seed)
        for name, found in rows.items():
            slides[name].add(rung.label, found)
    return slides


def facts_of(state: DoneSlide, base_mpp: float) -> dict[str, float]:
    """Return the figures of a slide's work; NaN where older work has none."""
    width, height = state.size_px
    return {
        "area, mm²": width * height * (base_mpp / 1000) ** 2,
        "tissue, part": state.tissue,
        "glass, grey level": float(np.mean(state.glass)),
        "pen, part": state.pen,
        "folds, part of the tissue": _known(state.folds),
        "focus, 1/µm": _known(state.focus),
        "hardly in focus, part of the tiles": _known(state.soft),
    }


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def _rows(
    manifest: Manifest, rung: Rung, descriptors: Sequence[Descriptor], *, num: int, seed: int
) -> dict[str, list[FoundPatch]]:
    """Read a magnification's patches; return what was found in each, by slide."""
    found: dict[str, list[FoundPatch]] = defaultdict(list)
    stats = StatsEncoder()
    for batch in _batches(manifest, rung, num, seed):
        images, embeddings = images_of(batch), embeddings_of(batch, manifest)
        stains, described = stats(images), {one.distance_name: one(images) for one in descriptors}
        for i, meta in enumerate(batch.meta or ()):
            row = dict(zip(FEATURE_NAMES, stains[i].tolist(), strict=True))
            figures = {PATCH_TISSUE: meta.tissue} | {name: row[key] for key, name in STAIN.items()}
            vectors = {kind: of[i] for kind, of in described.items()} | {EMBEDDINGS: embeddings[i]}
            found[meta.slide].append(FoundPatch(figures, vectors, images[i]))
    return found


def _batches(manifest: Manifest, rung: Rung, num: int, seed: int) -> Iterator[Batch]:
    for split in SPLITS:
        if manifest.count(split, rung.magnification):
            columns = ("image", "grid", "meta")
            source = SampleSource(manifest, split=split, columns=columns, magnifications=[rung.magnification])
            yield from source.eval_batches(rung.magnification, num, seed, BATCH)


def embeddings_of(batch: Batch, manifest: Manifest) -> np.ndarray:
    """Return the mean of each patch's grid, float32 (n, D), as the encoder gave it before any standardisation."""
    means = np.empty((len(batch), manifest.encoder.dim), np.float32)
    for group in batch.grids or ():
        for i, cells in zip(group.index.tolist(), group.cells, strict=True):
            means[i] = _mean_of(group.rows, cells).numpy()
    statistics = manifest.encoder.statistics
    return means * _array(statistics, "std") + _array(statistics, "mean") if statistics else means


def _mean_of(rows: Tensor, cells: Tensor) -> Tensor:
    """Return the mean of a grid that is ``rows[cells]``, rows (r, D), cells (S, S), without making it."""
    numbers, counts = cells.flatten().unique(return_counts=True)
    return counts.float() @ rows[numbers].float() / counts.sum()


def standardised(vectors: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Return embeddings as a data set standardises them; as they are where it does not."""
    statistics = manifest.encoder.statistics
    return (vectors - _array(statistics, "mean")) / _array(statistics, "std") if statistics else vectors


def _array(statistics: dict, name: str) -> np.ndarray:
    return np.asarray(statistics[name], np.float32)
