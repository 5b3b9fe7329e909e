"""`cnn`: the summarizer CNN without FiLM, blind to magnification; `film` derives from it.

Legend: b batch, g grids of one size, S grid side, h w cells, D embedding width, R resolution, c channels, d token
width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.cond.base import TOKEN_STRIDE, Conditioner, batch_order, token_side
from zoomldm.cond.batchnorm import GlobalBatchNorm2d
from zoomldm.data.batch import GridGroup


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut, then max pooling: `b c h w` to `b c' h/2 w/2`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = GlobalBatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = GlobalBatchNorm2d(out_channels)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, magnification: Tensor | None = None) -> Tensor:
        """Give the block's output; `magnification` is the embedding `b e` that a modulated block listens to."""
        h = functional.relu(self.modulate(0, self.norm1(self.conv1(x)), magnification))
        h = self.modulate(1, self.norm2(self.conv2(h)), magnification)
        return functional.max_pool2d(functional.relu(h + self.shortcut(x)), 2)

    def modulate(self, place: int, h: Tensor, magnification: Tensor | None) -> Tensor:
        """Leave the output of norm `place` (0 or 1) as it is."""
        return h


class CNNConditioner(Conditioner):
    """Summarise each grid to (R/16)^2 tokens by a 1x1 projection, resizing to R x R and four residual blocks.

    The projection is applied to the native cells, because it commutes with nearest upsampling: the R x R x D input
    is never made. A grid larger than R is averaged by area. All grids of the batch go through the blocks together,
    so that batch norm sees every magnification.

    Args:
        grid_dim: D, the encoder's embedding width.
        resolution: R, cells along a side; a multiple of 16.
        widths: channels of the four blocks.
        projection: channels that the projection gives to the first block: None as many as that makes, D all of them,
            without a projection, as the paper says.
        token_dim: d; where it is not the last width, a linear layer maps to it.
    """

    def __init__(
        self,
        *,
        grid_dim: int,
        resolution: int,
        widths: Sequence[int],
        token_dim: int,
        projection: int | None,
        position_embedding: bool,
    ) -> None:
        projection = projection or widths[0]
        if 2 ** len(widths) != TOKEN_STRIDE:
            raise ValueError(f"widths must name the channels of four blocks, got {list(widths)}")
        super().__init__(
            num_tokens=token_side(resolution) ** 2, token_dim=token_dim, position_embedding=position_embedding
        )
        self.resolution = resolution
        self.project = nn.Identity() if projection == grid_dim else nn.Linear(grid_dim, projection)
        inputs = [projection, *widths[:-1]]
        self.blocks = nn.ModuleList([self.make_block(i, o) for i, o in zip(inputs, widths, strict=True)])
        self.out = nn.Identity() if widths[-1] == token_dim else nn.Linear(widths[-1], token_dim)
        self.norm = nn.LayerNorm(token_dim)  # tokens of unit scale, as the class embeddings of the ImageNet LDM are

    def make_block(self, in_channels: int, out_channels: int) -> ResidualBlock:
        """Build one block; subclasses put another kind in its place."""
        return ResidualBlock(in_channels, out_channels)

    def embed_magnification(self, rung: Tensor) -> Tensor | None:
        """Give what the blocks are told of the magnification: nothing here."""
        return None

    def summarize(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        groups = [group.dense() for group in grids]
        order, inverse = batch_order(groups, len(rung))
        x = torch.cat([self.resize(self.project(self._at_precision(group.values))) for group in groups])
        magnification = self.embed_magnification(rung[order])
        for block in self.blocks:
            x = block(x, magnification)
        return self.norm(self.out(rearrange(x, "b c h w -> b (h w) c")))[inverse]

    def resize(self, cells: Tensor) -> Tensor:
        """Bring cells `g S S c` to `g c R R`, by nearest upsampling or by area averaging."""
        x = rearrange(cells, "g h w c -> g c h w")
        side = x.shape[-1]
        if side > self.resolution:
            return functional.adaptive_avg_pool2d(x, self.resolution)
        return x if side == self.resolution else functional.interpolate(x, size=(self.resolution, self.resolution))

    def _at_precision(self, values: Tensor) -> Tensor:
        """Cast stored float16 embeddings to the parameters' type, unless autocast will cast them anyway."""
        return values if torch.is_autocast_enabled(values.device.type) else values.to(self.norm.weight.dtype)
