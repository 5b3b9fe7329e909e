"""Real patches and conditions for the evaluation, out of the shards, in a seeded random order."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.order.sequence import permuted
from zoomldm.data.reader import SampleSource
from zoomldm.ladder import label


class ShardPatches:
    """Serve ``evaluate.PatchSource`` from a data set; exclude.txt is honoured."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._sources: dict[tuple[str, tuple[str, ...]], SampleSource] = {}

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
    ) -> Iterator[Batch]:
        """Yield ``num`` patches after the first ``skip`` of a permutation keyed by seed, split and magnification."""
        source, rung = self._source(split, tuple(columns)), self.manifest.ladder.rung_of(magnification)
        index = random_order(
            int(source.counts[rung.index]), np.arange(skip, skip + num), f"{seed}/{split}/{label(magnification)}"
        )
        for start in range(0, num, batch_size):
            chosen = index[start : start + batch_size]
            yield source.read(np.full(len(chosen), rung.index), chosen)

    def _source(self, split: str, columns: tuple[str, ...]) -> SampleSource:
        if (split, columns) not in self._sources:
            self._sources[split, columns] = SampleSource(self.manifest, split=split, columns=columns)
        return self._sources[split, columns]


def random_order(count: int, places: np.ndarray, name: str) -> np.ndarray:
    """Return what stands at some places of a permutation of 0..count-1 that ``name`` keys."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], np.uint64)[0]
    return permuted(places, np.full(len(places), count), np.full(len(places), key))
