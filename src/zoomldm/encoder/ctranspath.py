"""CTransPath: Swin-T with a convolutional stem, trained on histology (Wang et al., 2022); D = 768.

The original needs a patched timm 0.5.4; this is today's timm Swin transformer with the stem as a module of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from zoomldm.encoder.vision import IMAGENET, VisionEncoder, weights_of
from zoomldm.weights.layout_encoders import CTRANSPATH, CTRANSPATH_DIMS
from zoomldm.weights.load import load_family

INPUT_PX = 224


class ConvStem(nn.Module):
    """Embed `n 3 h w` to `n h/4 w/4 width`: two 3x3 convolutions of stride 2 with batch norm, then a 1x1 one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_dim, out_dim in ((3, width // 8), (width // 8, width // 4)):
            layers += [
                nn.Conv2d(in_dim, out_dim, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_dim),
                nn.ReLU(),
            ]
        self.proj = nn.Sequential(*layers, nn.Conv2d(width // 4, width, 1))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(rearrange(self.proj(x), "n c h w -> n h w c"))


def build_ctranspath() -> SwinTransformer:
    """Build the untrained network: `n 3 224 224` to `n 768`."""
    network = SwinTransformer(
        img_size=INPUT_PX,
        patch_size=4,
        embed_dim=CTRANSPATH_DIMS["width"],
        depths=CTRANSPATH_DIMS["depths"],
        num_heads=CTRANSPATH_DIMS["heads"],
        window_size=CTRANSPATH_DIMS["window"],
        num_classes=0,
        drop_path_rate=0.0,
    )
    network.patch_embed = ConvStem(CTRANSPATH_DIMS["width"])
    return network


def load_ctranspath(network: nn.Module, path: str | Path) -> None:
    """Load the authors' checkpoint (``model.*``).

    Raises:
        WeightsError: another file, or another network.
    """
    load_family(network, CTRANSPATH, CTRANSPATH_DIMS, path)


class CTransPathEncoder(VisionEncoder):
    """CTransPath: tiles resized to 224 px and normalised as ImageNet."""

    dim = 8 * CTRANSPATH_DIMS["width"]

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
        file, network = weights_of(name, weights), build_ctranspath()
        load_ctranspath(network, file)
        super().__init__(
            name=name,
            network=network,
            weights=file,
            dim=self.dim,
            input_px=INPUT_PX,
            normalisation=IMAGENET,
            mpp=2.0,  # the paper: trained at 5x
            batch_size=batch_size,
            device=device,
            licence=licence,
            tile_px=tile_px,
            tile_mpp=tile_mpp,
        )
