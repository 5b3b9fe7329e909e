"""`vit`: the transformer summarizer of the later official ZoomLDM (CVPR 2025), for UNI grids; loads its weights.

A grid becomes at most 8 x 8 places, each standardised over its channels; the encoder sees a magnification token and 64
places. The null condition is zeros. Parameter names are the original's.
Legend: g grids of one size, S grid side, h w places, D embedding width, n = 1 + side^2 tokens, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vision_transformer import Encoder as TransformerEncoder

from zoomldm.cond.base import Conditioner, batch_order
from zoomldm.data.batch import GridGroup


class ViTConditioner(Conditioner):
    """Summarise grids by a transformer over their cells.

    Args:
        grid_dim: D; the official weights are for UNI, 1024.
        side: places along an edge; larger grids are averaged to it, smaller ones lie in the middle of the places.
        standardise: bring every place to mean 0 and standard deviation 1 over its channels, as the official data are.
        position_embedding: one more, on top of the encoder's own.
    """

    def __init__(
        self,
        *,
        num_rungs: int,
        grid_dim: int,
        token_dim: int,
        side: int,
        depth: int,
        heads: int,
        mlp_dim: int | None = None,
        standardise: bool,
        position_embedding: bool,
    ) -> None:
        super().__init__(num_tokens=1 + side**2, token_dim=token_dim, position_embedding=position_embedding)
        del self.null  # the original's null condition is not learned
        self.register_buffer("null", torch.zeros(self.num_tokens, token_dim), persistent=False)
        self.side = side
        self.standardise = standardise
        self.pad_token = nn.Parameter(0.02 * torch.randn(1, 1, token_dim))
        self.num_rungs = num_rungs
        self.mag_embedding = nn.Embedding(num_rungs, token_dim)
        self.dim_reduce = nn.Linear(grid_dim, token_dim)
        self.encoder = TransformerEncoder(
            seq_length=self.num_tokens,
            num_layers=depth,
            num_heads=heads,
            hidden_dim=token_dim,
            mlp_dim=mlp_dim or 4 * token_dim,
            dropout=0.0,
            attention_dropout=0.0,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        self.final_proj = nn.Linear(token_dim, token_dim)
        self.layer_norm = nn.LayerNorm(token_dim, eps=1e-5)

    def summarize(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        groups = [group.dense() for group in grids]
        _, inverse = batch_order(groups, len(rung))
        tokens = [self.encode(self.pool(group.values), rung[group.index]) for group in groups]
        return torch.cat(tokens)[inverse]

    def pool(self, values: Tensor) -> Tensor:
        """Average grids `g S S D` to at most `side` places an edge and standardise each place; float32 `g s s D`."""
        values = values.float()
        if values.shape[1] > self.side:
            averaged = functional.adaptive_avg_pool2d(rearrange(values, "g h w d -> g d h w"), self.side)
            values = rearrange(averaged, "g d h w -> g h w d")
        return standardise_places(values) if self.standardise else values

    def encode(self, places: Tensor, rung: Tensor) -> Tensor:
        """Give the tokens `g n d` of grids `g s s D`, s <= side, at rungs (g,)."""
        cells = self.dim_reduce(rearrange(places, "g h w d -> g (h w) d"))
        missing = self.side**2 - cells.shape[1]
        before = (missing + 1) // 2
        pads = self.pad_token.expand(len(cells), missing, -1)
        magnification = rearrange(self.mag_embedding(rung), "g d -> g 1 d")
        x = torch.cat([magnification, pads[:, :before], cells, pads[:, before:]], dim=1)
        return self.layer_norm(self.final_proj(self.encoder(x)))


def standardise_places(values: Tensor) -> Tensor:
    """Standardise the channels of each place, `... D`, with the unbiased deviation, as the official data are."""
    mean, std = values.mean(-1, keepdim=True), values.std(-1, keepdim=True)
    return (values - mean) / (std + 1e-8)
