"""Conditions of real patches, out of the shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import SPLITS
from zoomldm.errors import near_match
from zoomldm.ladder import Rung
from zoomldm.sampling.sources.base import Source

if TYPE_CHECKING:
    import numpy as np

    from zoomldm.data.batch import Batch


class OracleSource(Source):
    """Conditions of real patches, drawn without repetition.

    Args:
        split: whose: train or test.
    """

    needs_shards = True

    def __init__(self, *, name: str, split: str, manifest: Manifest, seed: int) -> None:
        from zoomldm.sampling.conditions import ShardPatches

        super().__init__(name=name)
        if split not in SPLITS:
            raise ValueError(f"split={split}:{near_match(split, SPLITS)} expected {' or '.join(SPLITS)}")
        self.origin = f"{split} patches"
        self._patches, self._split, self._seed = ShardPatches(manifest), split, seed

    def why_not(self, rung: Rung) -> str | None:
        return None if self.count(rung) else f"{rung.label}: no {self.origin} to take conditions from"

    def count(self, rung: Rung) -> int:
        return self._patches.count(self._split, rung.magnification)

    def read(self, rung: Rung, start: int, stop: int, *, with_grids: bool) -> Batch:
        return self._batch(rung, start, stop, ("grid", "meta") if with_grids else ("meta",))

    def references(self, rung: Rung, num: int) -> np.ndarray:
        from zoomldm.sampling.generator import images_of

        return images_of(self._batch(rung, 0, num, ("image",)))

    def scene(self, coarsest: Rung) -> Source:
        from zoomldm.sampling.sources.nested import Nested

        return Nested(self, coarsest)

    def _batch(self, rung: Rung, start: int, stop: int, columns: tuple[str, ...]) -> Batch:
        (batch,) = self._patches.batches(
            split=self._split,
            magnification=rung.magnification,
            num=stop - start,
            skip=start,
            seed=self._seed,
            columns=columns,
            batch_size=stop - start,
        )
        return batch
