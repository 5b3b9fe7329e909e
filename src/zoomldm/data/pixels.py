"""Between pixels of 0..255 and the numbers of -1..1 that networks see and make."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 from -1 to 1."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map images in about [-1, 1] to uint8, rounding and clipping."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
