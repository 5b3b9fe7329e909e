"""HIPT's tile encoder: a ViT-S/16 trained by DINO on 256 px tiles at 20x (Chen et al., 2022); D = 384."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.encoder.vision import HALF, VisionEncoder
from zoomldm.weights.layout import Row
from zoomldm.weights.layout_encoders import HIPT, HIPT_DIMS
from zoomldm.weights.load import load_family
from zoomldm.weights.read import weight_file

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
    grid = positions[:, 1:].reshape(1, old, old, -1).movedim(-1, 1).float()
    factor = (side + 0.1) / old
    grid = functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:, :1].float(), grid.movedim(1, -1).reshape(1, side * side, -1)], dim=1)


class HIPTEncoder(VisionEncoder):
    """HIPT ViT-256: tiles of 256 px as they are, normalised to -1..1."""

    def __init__(self, *, weights: str | Path, batch_size: int = 64, device: str | torch.device = "cpu") -> None:
        network = build_hipt()
        load_hipt(network, weights)
        super().__init__(
            name="hipt",
            network=network,
            weights=weight_file(weights),
            dim=HIPT_DIMS["width"],
            input_px=INPUT_PX,
            normalisation=HALF,
            mpp=0.5,
            batch_size=batch_size,
            device=device,
        )
