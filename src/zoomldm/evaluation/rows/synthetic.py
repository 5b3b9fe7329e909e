"""What the synthetic rows share: patches in chunks, kept on disk, so that an interrupted evaluation goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rung_data import RungData
from zoomldm.evaluation.store import Chunks
from zoomldm.sampling.generator import PatchGenerator, sample_number


class SyntheticRow(Row):
    """Patches that a model makes; here from the conditions of the conditioning half, each beside its own reference.

    Where there are fewer conditions than patches, they are used again; the noise is that of the patch's own number.
    """

    is_synthetic = True
    is_paired = True

    def generator(self, data: RungData) -> PatchGenerator:
        """Return what makes the patches."""
        return data.bench.generator

    def read(self, data: RungData, index: int) -> Batch | None:
        """Fetch the conditions of a chunk (one of ``data.spans``); None where there is nothing to fetch."""
        return data.conditions(index, columns=("grid",) if data.bench.generator.uses_grid else ("meta",))

    def synthesise(self, data: RungData, conditions: Batch | None, numbers: Sequence[int]) -> np.ndarray:
        """Make the patches of what ``read`` fetched, uint8 (b, p, p, 3), of the noise of these sample numbers."""
        if conditions is None:
            raise TypeError(f"{type(self).__name__} reads no conditions, so it must synthesise without")
        return self.generator(data).from_batch(conditions, numbers)

    def make(self, data: RungData, index: int, conditions: Batch | None) -> np.ndarray:
        """Make a chunk, uint8 (b, p, p, 3)."""
        start, stop = data.spans[index]
        return self.synthesise(data, conditions, [sample_number(data.rung, place) for place in range(start, stop)])

    def chunks(self, data: RungData) -> Chunks:
        """Return this row's patches as far as they are on disk."""
        return data.chunks(self.name, self.depends_on(data.bench))

    def images(self, data: RungData) -> Iterator[np.ndarray]:
        chunks = self.chunks(data)
        for index in range(len(data.spans)):
            images = chunks.read(index)
            yield self.make(data, index, self.read(data, index)) if images is None else images
        chunks.prune()
