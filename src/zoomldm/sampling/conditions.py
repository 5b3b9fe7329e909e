"""Real patches of a data set in a random order: those that give conditions, and those to compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.order.sequence import permuted
from zoomldm.data.reader import SampleSource
from zoomldm.ladder import Rung, label
from zoomldm.sampling.lossless import LosslessReader, lossless_indices, num_lossless, without_image


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
