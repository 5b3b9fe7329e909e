"""Agreement of a level with the one above, whose pixels are the averages of 2 x 2 of its own, and with what stays.

A denoised image is corrected by what it lacks of them, through the autoencoder, and at the end once more in pixels.
Images are `3 h w` in about [-1, 1], parents `3 h/2 w/2`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Coder = Callable[[Tensor], Tensor]


def enlarge(parent: Tensor) -> Tensor:
    """Give a parent at twice its size, `3 2h 2w`, by cubic interpolation."""
    bigger = functional.interpolate(parent[None], scale_factor=2, mode="bicubic", align_corners=False)
    return bigger[0].clamp(-1, 1)


def lacking(image: Tensor, parent: Tensor, reach: int) -> Tensor:
    """Give what an image lacks of its parent, enlarged to the image's size without steps."""
    lack = functional.avg_pool2d((parent - functional.avg_pool2d(image, 2))[None], reach, ceil_mode=True)
    return functional.interpolate(lack, size=image.shape[1:], mode="bilinear", align_corners=False)[0]


def corrected(x0: Tensor, lack: Coder, *, encode: Coder, decode: Coder) -> Tensor:
    """Give latents `c h w` whose image lacks less, by what gives the lack of an image.

    The autoencoder's own error cancels: only the difference that the correction makes to the latents is taken over.
    """
    image = decode(x0)
    return x0 + encode(image + lack(image)) - encode(image)


def in_pixels(image: Tensor, parent: Tensor, *, reach: int, times: int) -> Tensor:
    """Correct an image by what it lacks, several times since the enlarged lack is not exact, and clip it."""
    for _ in range(times):
        image = image + lacking(image, parent, reach)
    return image.clamp(-1, 1)
