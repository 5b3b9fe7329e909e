"""`none`: no condition; one learned set of tokens for every sample, which is also the null condition."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zoomldm.cond.base import Conditioner, token_side
from zoomldm.data.batch import GridGroup


class NoConditioner(Conditioner):
    """Give the null tokens whatever the grids and the magnification are."""

    uses_grid = False
    uses_condition = False

    def __init__(self, *, resolution: int, token_dim: int, position_embedding: bool) -> None:
        super().__init__(
            num_tokens=token_side(resolution) ** 2, token_dim=token_dim, position_embedding=position_embedding
        )

    def summarize(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        return self.null_tokens(len(rung))
