"""Conditions out of nothing: the embedding diffusion model draws them, for novel patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoomldm.ladder import Rung
from zoomldm.sampling.sources.base import Source

if TYPE_CHECKING:
    from torch import Tensor

    from zoomldm.data.batch import Batch
    from zoomldm.sampling.generator import PatchGenerator


class GeneratedSource(Source):
    """Conditions that the generator's embedding diffusion model draws."""

    origin = "draws of the embedding diffusion model"
    needs_edm = True

    def count(self, rung: Rung) -> None:
        return None

    def read(self, rung: Rung, start: int, stop: int, *, with_grids: bool) -> None:
        return None

    def tokens(self, generator: PatchGenerator, rung: Rung, numbers: Sequence[int], conditions: Batch | None) -> Tensor:
        return generator.edm_tokens(rung.index, numbers)
