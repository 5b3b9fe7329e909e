"""Where conditions come from: those of real patches out of the shards, or an embedding diffusion model's.

Legend: b batch, p patch side (px).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.order.sequence import permuted
from zoomldm.data.reader import SampleSource
from zoomldm.ladder import Rung, label
from zoomldm.sampling.generator import PatchGenerator, images_of
from zoomldm.sampling.lossless import LosslessReader, lossless_indices, num_lossless, without_image


class Conditions(Protocol):
    """Conditions of a magnification, in a fixed order; ``source``: what they are taken from."""

    name: str
    source: str

    def count(self, rung: Rung, num: int) -> int:
        """Return how many of ``num`` wanted conditions there are."""

    def read(self, generator: PatchGenerator, rung: Rung, start: int, stop: int) -> Batch | None:
        """Fetch some conditions; None where there is nothing to fetch."""

    def synthesise(
        self, generator: PatchGenerator, rung: Rung, numbers: Sequence[int], conditions: Batch | None
    ) -> np.ndarray:
        """Make the patches of what ``read`` fetched, uint8 (b, p, p, 3), of the noise of these sample numbers."""

    def references(self, rung: Rung, num: int) -> np.ndarray | None:
        """Return the real patches uint8 (num, p, p, 3) whose conditions come first, where there are such patches."""


class GeneratedConditions:
    """Conditions that the generator's embedding diffusion model draws: novel patches."""

    name = "generated"
    source = "embedding diffusion model"

    def count(self, rung: Rung, num: int) -> int:
        return num

    def read(self, generator: PatchGenerator, rung: Rung, start: int, stop: int) -> None:
        return None

    def synthesise(
        self, generator: PatchGenerator, rung: Rung, numbers: Sequence[int], conditions: Batch | None
    ) -> np.ndarray:
        return generator.from_edm(rung.index, numbers)

    def references(self, rung: Rung, num: int) -> None:
        return None


class RealConditions:
    """Conditions of real patches, drawn without repetition (``oracle``)."""

    name = "oracle"

    def __init__(self, manifest: Manifest, *, split: str, seed: int) -> None:
        self.source = f"{split} patches"
        self._patches, self._split, self._seed = ShardPatches(manifest), split, seed

    def count(self, rung: Rung, num: int) -> int:
        return min(num, self._patches.count(self._split, rung.magnification))

    def read(self, generator: PatchGenerator, rung: Rung, start: int, stop: int) -> Batch:
        return self._batch(rung, start, stop, "grid" if generator.uses_grid else "meta")

    def synthesise(
        self, generator: PatchGenerator, rung: Rung, numbers: Sequence[int], conditions: Batch | None
    ) -> np.ndarray:
        if conditions is None:
            raise TypeError("conditions of real patches must be read first")
        return generator.from_batch(conditions, numbers)

    def references(self, rung: Rung, num: int) -> np.ndarray:
        return images_of(self._batch(rung, 0, num, "image"))

    def _batch(self, rung: Rung, start: int, stop: int, column: str) -> Batch:
        (batch,) = self._patches.batches(
            split=self._split,
            magnification=rung.magnification,
            num=stop - start,
            skip=start,
            seed=self._seed,
            columns=(column,),
            batch_size=stop - start,
        )
        return batch


class ShardPatches:
    """Real patches of a data set in a seeded random order; exclude.txt is honoured."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._sources: dict[tuple[str, tuple[str, ...]], SampleSource] = {}
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def count(self, split: str, magnification: float) -> int:
        """Return how many patches a split has at a magnification."""
        if not self.manifest.count(split, magnification):
            return 0
        rung = self.manifest.ladder.rung_of(magnification)
        return int(self._source(split, ("image",)).counts[rung.index])

    def batches(
        self,
        *,
        split: str,
        magnification: float,
        num: int,
        seed: int,
        columns: Sequence[str],
        batch_size: int,
        skip: int = 0,
        lossless: bool = False,
    ) -> Iterator[Batch]:
        """Yield ``num`` patches after the first ``skip`` of a permutation keyed by seed, split and magnification.

        ``lossless``: of the samples in the column ``reference`` alone, whose pixels are then the images.
        """
        columns = without_image(columns) if lossless else tuple(columns)
        source, rung = self._source(split, columns), self.manifest.ladder.rung_of(magnification)
        kept = self._lossless(split, rung) if lossless else np.arange(int(source.counts[rung.index]))
        index = kept[random_order(len(kept), np.arange(skip, skip + num), f"{seed}/{split}/{label(magnification)}")]
        reader = LosslessReader(source) if lossless else None
        for start in range(0, num, batch_size):
            chosen = index[start : start + batch_size]
            yield reader.read(rung, chosen) if reader else source.read(np.full(len(chosen), rung.index), chosen)

    def num_lossless(self, split: str, magnification: float) -> int:
        """Return how many patches are kept without loss beside a lossy image; 0 without the column ``reference``."""
        if not num_lossless(self.manifest, split, magnification):
            return 0
        return len(self._lossless(split, self.manifest.ladder.rung_of(magnification)))

    def _lossless(self, split: str, rung: Rung) -> np.ndarray:
        if (split, rung.index) not in self._kept:
            self._kept[split, rung.index] = lossless_indices(self._source(split, ("meta",)), rung)
        return self._kept[split, rung.index]

    def _source(self, split: str, columns: tuple[str, ...]) -> SampleSource:
        if (split, columns) not in self._sources:
            self._sources[split, columns] = SampleSource(self.manifest, split=split, columns=columns)
        return self._sources[split, columns]


def random_order(count: int, places: np.ndarray, name: str) -> np.ndarray:
    """Return what stands at some places of a permutation of 0..count-1 that ``name`` keys."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], np.uint64)[0]
    return permuted(places, np.full(len(places), count), np.full(len(places), key))
