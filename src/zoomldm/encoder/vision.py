"""What encoders with weights have in common: a network on a device, and the way from uint8 tiles to its input.

Legend: n tiles, c channels, h w pixels.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.encoder.base import Encoder
from zoomldm.errors import ConfigError
from zoomldm.files import sha256_of
from zoomldm.weights.read import weight_file

log = logging.getLogger(__name__)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class VisionEncoder(Encoder):
    """An encoder that is a network: tiles are resized or cropped to `input_px`, normalised, and encoded.

    Args:
        network: maps `n 3 input_px input_px` to `n dim`.
        weights: the file whose hash identifies the encoder.
        fit: how a tile of another side gets to `input_px`: "resize" (bicubic, antialiased) or "crop" (the centre).
        normalisation: mean and standard deviation of the channels, for values in 0..1.
        mpp: micrometres a pixel of the tiles that the encoder was trained on.
        batch_size: tiles a call, always the same, so that a tile's vector does not depend on its neighbours.
        tile_px, tile_mpp: of the tiles that it will get, where they are known: it is said where they are unlike those
            that it was trained on.
    """

    def __init__(
        self,
        *,
        name: str,
        network: nn.Module,
        weights: Path | None,
        dim: int,
        input_px: int,
        fit: Literal["resize", "crop"] = "resize",
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        mpp: float,
        batch_size: int,
        device: str | torch.device,
        licence: str,
        tile_px: int | None = None,
        tile_mpp: float | None = None,
    ) -> None:
        if fit not in ("resize", "crop"):
            raise ValueError(f"fit must be resize or crop, got {fit!r}")
        self.name, self.dim, self.input_px, self.mpp, self.batch_size = name, dim, input_px, mpp, batch_size
        self.fit, self.licence = fit, licence
        self.weights_sha256 = sha256_of(weights) if weights is not None else None
        self._mean, self._std = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation)
        self._network = network.eval().requires_grad_(False)
        self.to(device)
        if tile_px and tile_mpp:
            warn_of_mismatch(self, tile_px=tile_px, mpp=tile_mpp)

    def to(self, device: Any) -> VisionEncoder:
        self.device = torch.device(device)
        self._network.to(self.device)
        self._mean, self._std = self._mean.to(self.device), self._std.to(self.device)
        return self

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"fit": self.fit}

    @torch.inference_mode()
    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        pixels = rearrange(torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device), "n h w c -> n c h w")
        return self._network(self.prepare(pixels)).float().cpu().numpy()

    def prepare(self, pixels: Tensor) -> Tensor:
        """Turn uint8 tiles `n 3 h w` into the network's input `n 3 input_px input_px`."""
        x = self.fit_to_input(pixels.float() / 255)
        return (x - self._mean) / self._std

    def fit_to_input(self, x: Tensor) -> Tensor:
        """Bring values in 0..1, `n 3 h w`, to the side the network wants."""
        side = self.input_px
        if x.shape[-2:] == (side, side):
            return x
        if self.fit == "resize" or min(x.shape[-2:]) < side:
            resized = functional.interpolate(x, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
            return resized.clamp(0, 1)
        top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
        return x[..., top : top + side, left : left + side]


def weights_of(name: str, weights: str | Path | None) -> Path:
    """Return the weight file that a path or folder names.

    Raises:
        ConfigError: none is given. WeightsError: it is not there.
    """
    if weights is None:
        raise ConfigError(f"encoder={name} needs encoder.weights=PATH; docs/weights.md says where they are published")
    return weight_file(weights)


def warn_of_mismatch(encoder: Encoder, *, tile_px: int, mpp: float) -> list[str]:
    """Say where the tiles are not what an encoder was trained on; each line is logged as a warning and returned.

    A tile of another side is resized or cropped; a scale more than 15 % off is a different task for the encoder.
    """
    lines = []
    if encoder.input_px and encoder.input_px != tile_px:
        how = {"crop": "their centre is used"}.get(getattr(encoder, "fit", ""), "they are resized")
        lines.append(f"encoder={encoder.name} sees {encoder.input_px} px, tiles have {tile_px} px: {how}")
    scale = mpp
    if encoder.input_px and getattr(encoder, "fit", "resize") == "resize":
        scale = mpp * tile_px / encoder.input_px
    if abs(scale / encoder.mpp - 1) > 0.15:
        lines.append(
            f"encoder={encoder.name} was trained at {encoder.mpp:g} mpp, it gets tiles at {scale:.3g} mpp "
            f"({tile_px} px at {mpp:g} mpp): its embeddings may mean less"
        )
    for line in lines:
        log.warning("%s", line)
    return lines
