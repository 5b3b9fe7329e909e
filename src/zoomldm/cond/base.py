"""What every conditioner is: a module from grids and magnification to tokens.

Legend: b batch, n tokens, d token width, S grid side, D embedding width of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoomldm.data.batch import GridGroup

TOKEN_STRIDE = 16
"""Cells of the upsampled grid along the side of one token: four poolings by two."""


class Conditioner(nn.Module):
    """Turn a batch's grids and rungs into tokens `b n d`; subclasses write `summarize`.

    Its arguments come from its YAML in ``conf/cond`` and, where that is silent, from the facts of a model: num_rungs,
    grid_dim, resolution, widths, token_dim and position_embedding (``facts_of_model``).

    Attributes:
        num_tokens: n, and token_dim: d.
        uses_grid: whether batches must carry grids.
        uses_condition: False where the tokens say nothing of the sample, so that guidance has nothing to guide by.
        null: learned tokens `n d` that stand for a dropped condition.
        num_rungs: of the ladder that the tokens are told; None where they are told of no magnification.
        position: learned position embedding `n d`, or None; it starts at zero.
    """

    uses_grid = True
    uses_condition = True
    num_rungs: int | None = None

    def __init__(self, *, num_tokens: int, token_dim: int, position_embedding: bool = False) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.token_dim = token_dim
        self.null = nn.Parameter(0.02 * torch.randn(num_tokens, token_dim))
        self.position = nn.Parameter(torch.zeros(num_tokens, token_dim)) if position_embedding else None

    def forward(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        """Give the tokens `b n d` of samples at ladder rungs `rung`, int64 (b,)."""
        tokens = self.summarize(grids, rung)
        return tokens if self.position is None else tokens + self.position

    def null_tokens(self, batch_size: int) -> Tensor:
        """Give the tokens `b n d` of samples without a condition."""
        return self.null.expand(batch_size, -1, -1)

    def summarize(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        """Give the tokens `b n d` before the position embedding."""
        raise NotImplementedError


def facts_of_model(tokens: Mapping[str, Any], *, num_rungs: int, grid_dim: int) -> dict[str, Any]:
    """Return the facts from which a model's conditioner is made.

    Args:
        tokens: ``model.tokens``: resolution, widths, dim, position_embedding.
        num_rungs: of the ladder; grid_dim: width of the encoder's embeddings.
    """
    sizes = {key: value for key, value in tokens.items() if key != "dim"}
    return {"num_rungs": num_rungs, "grid_dim": grid_dim, "token_dim": tokens["dim"], **sizes}


def token_side(resolution: int) -> int:
    """Give the tokens along a side when grids are brought to `resolution` cells: 128 makes 8, so 64 tokens."""
    if resolution < TOKEN_STRIDE or resolution % TOKEN_STRIDE:
        raise ValueError(f"resolution must be a multiple of {TOKEN_STRIDE}, got {resolution}")
    return resolution // TOKEN_STRIDE


def batch_order(groups: Sequence[GridGroup], num_samples: int) -> tuple[Tensor, Tensor]:
    """Give the samples in the order of the groups, int64 (b,), and its inverse, which leads back to batch order.

    Raises ValueError unless every sample of the batch has exactly one grid.
    """
    order = torch.cat([group.index for group in groups])
    if len(order) != num_samples:
        raise ValueError(f"a batch of {num_samples} samples came with {len(order)} grids")
    return order, torch.argsort(order)
