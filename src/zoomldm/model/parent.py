"""What the U-Net is told of the level above, so that a patch agrees with the one that it is a quarter of.

The pixels of the level above are the averages of 2 x 2 of a patch's own, so every patch of the shards is a training
pair. They come in beside the noisy latent, each cell with the pixels that lie over it, and a plane that is 1 where they
are known. A parent that was drawn is a little wrong and a little soft, so training blurs some and makes all noisy, as
cascades of diffusion models do (Ho et al., 2022: conditioning augmentation).
Legend: b batch, p patch side (px), q latent side (cells), k planes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from zoomldm.diffusion.noise import keyed_dropout, keyed_noise_of_any_level
from zoomldm.errors import ConfigError, WeightsError

INPUT = "unet.conv_in.weight"
"""The weight that grows with what the U-Net is told."""


@dataclass(frozen=True, kw_only=True)
class ParentInput:
    """How samples are told their parents in training.

    Attributes:
        probability: chance that a sample is told.
        noise: the parent gets noise whose deviation is drawn up to this, of pixels in [-1, 1].
        blur: chance that a parent lacks its finest detail.
        token_noise: the tokens of a sample that is told get noise too, whose deviation is drawn up to this, of the root
            mean square of its own tokens: tokens that were drawn, or lie across patches, say what the parent does not.

    Raises:
        ConfigError: a chance that is none, or noise below 0.
    """

    probability: float
    noise: float
    blur: float
    token_noise: float

    def __post_init__(self) -> None:
        for key in ("probability", "blur", "noise", "token_noise"):
            value, is_chance = getattr(self, key), "noise" not in key
            if value < 0 or (is_chance and value > 1):
                raise ConfigError(f"model.parent.{key}={value}: expected 0 {'to 1' if is_chance else 'or more'}")

    def of_training(
        self, images: Tensor, tokens: Tensor, sample_numbers: Tensor, seed: int, *, side: int
    ) -> tuple[Tensor, Tensor]:
        """Give what is told of the parents of patches `b 3 p p` in [-1, 1], `b k q q`, and the tokens `b n d` with it.

        All draws are keyed by seed and sample.

        Args:
            side: q.
        """
        known = _each(keyed_dropout(seed, sample_numbers, self.probability, stream="known parents"))
        parents = functional.avg_pool2d(images, 2)
        softer = keyed_dropout(seed, sample_numbers, self.blur, stream="blurred parents")
        parents = torch.where(_each(softer), _blurred(parents), parents)
        parents = parents + _noise(parents, sample_numbers, seed, self.noise, "parent")
        scale = tokens.square().mean(dim=(1, 2), keepdim=True).sqrt()
        noisy = tokens + scale * _noise(tokens, sample_numbers, seed, self.token_noise, "tokens")
        return planes(parents, side) * known, torch.where(known[:, 0], noisy, tokens)


def num_planes(patch_px: int, latent_px: int) -> int:
    """Return k.

    Raises:
        ConfigError: a latent cell that is not a whole number of the parent's pixels wide.
    """
    if patch_px % (2 * latent_px):
        raise ConfigError(
            f"model.parent: a patch of {patch_px} px has a parent of {patch_px / 2:g} px, which do not lie over "
            f"{latent_px} latent cells; choose an autoencoder with cells of 2 or more pixels, or model.parent=null"
        )
    return 3 * (patch_px // latent_px // 2) ** 2 + 1


def planes(parents: Tensor, side: int | tuple[int, int]) -> Tensor:
    """Lay parents `b 3 h w` in [-1, 1] over latent cells, with a plane of ones: `b k` and the cells' rows and columns.

    Args:
        side: cells along each direction, or (rows, columns).
    """
    rows, columns = (side, side) if isinstance(side, int) else side
    over = rearrange(parents, "b c (h y) (w x) -> b (c y x) h w", h=rows, w=columns)
    return torch.cat([over, torch.ones_like(over[:, :1])], dim=1)


def widened(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a ZoomLDM for one that is told parents, which change nothing yet: their weights are 0.

    Args:
        like: the weights of the model that takes them.

    Raises:
        WeightsError: they differ in more.
    """
    found = dict(weights)
    if INPUT in found and INPUT in like and found[INPUT].shape != like[INPUT].shape:
        missing = like[INPUT].shape[1] - found[INPUT].shape[1]
        if missing > 0:
            found[INPUT] = functional.pad(found[INPUT], (0, 0, 0, 0, 0, missing))
    misfits = [
        name
        for name in found.keys() | like.keys()
        if name not in found or name not in like or found[name].shape != like[name].shape
    ]
    if misfits:
        raise WeightsError(f"{len(misfits)} weights are of another model, {sorted(misfits)[0]} among them")
    return found


def _noise(like: Tensor, sample_numbers: Tensor, seed: int, largest: float, of: str) -> Tensor:
    streams = {"level": f"level of the noise of the {of}", "stream": f"noise of the {of}"}
    return keyed_noise_of_any_level(seed, sample_numbers, like.shape[1:], largest=largest, **streams)


def _blurred(images: Tensor) -> Tensor:
    return functional.interpolate(functional.avg_pool2d(images, 2), scale_factor=2, mode="bicubic", align_corners=False)


def _each(values: Tensor) -> Tensor:
    """Bring (b,) to `b 1 1 1`."""
    return values[:, None, None, None]
