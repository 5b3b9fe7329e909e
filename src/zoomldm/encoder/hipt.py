"""HIPT's tile encoder: a ViT-S/16 trained by DINO on 256 px tiles at 20x (Chen et al., 2022); D = 384."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from einops import rearrange
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.encoder.vision import HALF, VisionEncoder, weights_of
from zoomldm.weights.layout import Row
from zoomldm.weights.layout_encoders import HIPT, HIPT_DIMS
from zoomldm.weights.load import load_family

INPUT_PX = 256


def build_hipt(input_px: int = INPUT_PX) -> nn.Module:
    """Build the untrained network: `n 3 input_px input_px` to the class token `n 384`."""
    return VisionTransformer(
        img_size=input_px,
        patch_size=HIPT_DIMS["patch_px"],
        embed_dim=HIPT_DIMS["width"],
        depth=HIPT_DIMS["depth"],
        num_heads=6,
        num_classes=0,
        global_pool="token",
        weight_init="skip",
    )


def load_hipt(network: nn.Module, path: str | Path) -> None:
    """Load HIPT's published checkpoint (DINO: ``teacher.backbone.*``), its position embedding resized.

    Raises:
        WeightsError: another file, or another network.
    """
    side = math.isqrt(network.pos_embed.shape[1] - 1)

    def resize(row: Row, tensor: Tensor) -> Tensor:
        return resize_positions(tensor, side) if row.change == "resize" else tensor

    load_family(network, HIPT, HIPT_DIMS, path, fit=resize)


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Resize a position embedding `1 (1 + s s) d` to `1 (1 + side side) d` as DINO does.

    Bicubic by the scale factor (side + 0.1) / s, not by size: that samples at slightly other places (by size,
    embeddings differ by 6e-4).
    """
    old = math.isqrt(positions.shape[1] - 1)
    if old == side:
        return positions
    grid = rearrange(positions[:, 1:].float(), "1 (h w) d -> 1 d h w", h=old)
    factor = (side + 0.1) / old
    grid = functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:, :1].float(), rearrange(grid, "1 d h w -> 1 (h w) d")], dim=1)


class HIPTEncoder(VisionEncoder):
    """HIPT ViT-256: tiles of 256 px as they are, normalised to -1..1."""

    dim = HIPT_DIMS["width"]

    def __init__(
        self,
        *,
        name: str,
        weights: str | Path | None,
        batch_size: int,
        device: str | torch.device,
        licence: str,
        tile_px: int | None = None,
        tile_mpp: float | None = None,
    ) -> None:
        file, network = weights_of(name, weights), build_hipt()
        load_hipt(network, file)
        super().__init__(
            name=name,
            network=network,
            weights=file,
            dim=self.dim,
            input_px=INPUT_PX,
            normalisation=HALF,
            mpp=0.5,
            batch_size=batch_size,
            device=device,
            licence=licence,
            tile_px=tile_px,
            tile_mpp=tile_mpp,
        )
