"""What the synthetic rows share: patches in chunks, kept on disk, so that an interrupted evaluation goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat

import numpy as np

from zoomldm.evaluation.bench import RungData
from zoomldm.evaluation.rows.base import Row
from zoomldm.sampling.generator import PatchGenerator, sample_number

Maker = Callable[[Sequence[int]], np.ndarray]
"""Makes one chunk of patches uint8 (b, p, p, 3), of the noise of these sample numbers."""


class SyntheticRow(Row):
    """Patches that a model makes; here from the conditions of the conditioning half, each beside its own reference.

    Where there are fewer conditions than patches, they are used again; the noise is that of the patch's own number.
    """

    is_synthetic = True
    is_paired = True

    def generator(self, data: RungData) -> PatchGenerator:
        """Return what makes the patches."""
        return data.bench.generator

    def places(self, data: RungData) -> np.ndarray:
        """Return, for each condition in turn, the place of its patch: int64 (num,), a permutation."""
        return np.arange(data.num)

    def makers(self, data: RungData) -> Iterator[Maker]:
        """Yield what makes each chunk, one for every one of ``data.spans``."""
        generator = self.generator(data)
        columns = ("grid",) if generator.uses_grid else ("meta",)
        for index in range(len(data.spans)):
            yield partial(generator.from_batch, data.conditions(index, columns=columns))

    def images(self, data: RungData) -> Iterator[np.ndarray]:
        places, depends_on = self.places(data), self.depends_on(data.bench)
        if (places != np.arange(data.num)).any():
            depends_on["places"] = places.tolist()
        chunks = data.chunks(self.name, depends_on)
        makers = self.makers(data) if chunks.missing else repeat(None)
        for index, ((start, stop), maker) in enumerate(zip(data.spans, makers)):
            is_missing = index in chunks.missing
            if is_missing:
                images = maker([sample_number(data.rung, place) for place in places[start:stop]])
                chunks.write(index, images)
            else:
                images = chunks.read(index)
            data.count(stop - start, was_made=is_missing)
            yield images
        chunks.prune()
