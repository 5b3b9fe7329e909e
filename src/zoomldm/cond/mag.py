"""`mag`: the magnification alone, a learned set of tokens for each rung of the ladder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoomldm.cond.base import Conditioner, token_side
from zoomldm.data.batch import GridGroup


class MagnificationConditioner(Conditioner):
    """Look the tokens up by rung; grids are not read."""

    uses_grid = False

    def __init__(self, *, num_rungs: int, resolution: int, token_dim: int, position_embedding: bool) -> None:
        super().__init__(
            num_tokens=token_side(resolution) ** 2, token_dim=token_dim, position_embedding=position_embedding
        )
        self.num_rungs = num_rungs
        self.tokens = nn.Parameter(torch.randn(num_rungs, self.num_tokens, token_dim))

    def summarize(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        return self.tokens[rung]
