"""`pool`: the grid averaged to one cell a token, then a linear layer; no convolutions and no magnification.

Legend: b batch, g grids of one size, h w cells, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.cond.base import Conditioner, batch_order, token_side
from zoomldm.data.batch import GridGroup


class PoolConditioner(Conditioner):
    """Average each grid adaptively (a smaller one is repeated) and project its cells."""

    def __init__(self, *, grid_dim: int, resolution: int, token_dim: int, position_embedding: bool) -> None:
        self.side = token_side(resolution)
        super().__init__(num_tokens=self.side**2, token_dim=token_dim, position_embedding=position_embedding)
        self.project = nn.Linear(grid_dim, token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def summarize(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        groups = [group.dense() for group in grids]
        _, inverse = batch_order(groups, len(rung))
        cells = torch.cat([self.pool(group.values) for group in groups])
        return self.norm(self.project(rearrange(cells, "b c h w -> b (h w) c")))[inverse]

    def pool(self, values: Tensor) -> Tensor:
        """Average grids `g h w c` of any side to float32 `g c side side`."""
        return functional.adaptive_avg_pool2d(rearrange(values, "g h w c -> g c h w").float(), self.side)
