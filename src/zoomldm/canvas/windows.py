"""A region of many patches denoised at once: windows that shift from step to step, so that borders agree.

Legend: H W patches of the region, s tokens along a patch's side, n = s * s, d token width, c channels and p pixels or
q latent cells along a patch's side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

WindowPredict = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(windows `b c q q`, timesteps (b,), tokens `b n d`, what is told beside `b k q q`) -> what the network says,
`b c q q`."""


@dataclass(frozen=True)
class TokenMap:
    """The tokens of a region's patches as one map, from which windows that lie across patches take theirs.

    Attributes:
        content: `s*H s*W d`, without the position embedding; position: that embedding, `n d`, or None.
        side: s.
    """

    content: Tensor
    position: Tensor | None
    side: int

    @classmethod
    def of(cls, tokens: Tensor, position: Tensor | None) -> TokenMap:
        """Lay out tokens `H W n d`."""
        content, side = tokens if position is None else tokens - position, round(tokens.shape[2] ** 0.5)
        return cls(rearrange(content, "H W (v u) d -> (H v) (W u) d", v=side, u=side), position, side)

    def at(self, corners: Sequence[tuple[int, int]]) -> Tensor:
        """Give the tokens `b n d` of windows by their top left corners in the map, (row, column)."""
        parts = [self.content[y : y + self.side, x : x + self.side] for y, x in corners]
        tokens = rearrange(torch.stack(parts), "b v u d -> b (v u) d")
        return tokens if self.position is None else tokens + self.position


def starts(length: int, window: int, shift: int) -> list[int]:
    """Return where windows start along a side so that they cover it: every ``window`` from ``shift`` on, and the ends.

    The first and the last window are moved to the border; where they overlap others, predictions are averaged.
    """
    inner = range(shift, length - window + 1, window)
    return sorted({0, length - window, *inner}) if shift else list(inner)


def predict_region(
    predict: WindowPredict,
    x: Tensor,
    t: Tensor,
    tokens: TokenMap,
    *,
    window: int,
    shifts: Sequence[int],
    batch_size: int,
    needed: Tensor | None = None,
    told: Tensor | None = None,
) -> Tensor:
    """Give what the network says of a region `c h w`, from its windows.

    Args:
        t: the timestep, ().
        window: q; shifts: of the grids of windows, in both directions: (0,), (q / 2,), or both for predictions that
            fade into each other, at twice the price.
        needed: bool (H, W): patches that are wanted; a window over none of them is not computed (0 there). None: all.
        told: what the network is told of the region beside its latents, `k h w`.
    """
    step = window // tokens.side  # latent cells a token
    corners = [
        (y, x0)
        for shift in shifts
        for y, x0 in itertools.product(starts(x.shape[1], window, shift), starts(x.shape[2], window, shift))
        if needed is None or bool(_touched(needed, y, x0, window).any())
    ]
    total, count, weight = torch.zeros_like(x), x.new_zeros(x.shape[1:]), _taper(window, x)
    for start in range(0, len(corners), batch_size):
        some = corners[start : start + batch_size]
        windows, beside = (None if a is None else _cut(a, some, window) for a in (x, told))
        own = tokens.at([(y // step, x0 // step) for y, x0 in some])
        for (y, x0), said in zip(some, predict(windows, t.expand(len(some)), own, beside).float()):
            total[:, y : y + window, x0 : x0 + window] += said * weight
            count[y : y + window, x0 : x0 + window] += weight
    return total / count.clamp(min=weight.min())


def _cut(image: Tensor, corners: Sequence[tuple[int, int]], side: int) -> Tensor:
    """Cut squares out of `c h w` by their top left corners, `b c side side`."""
    return torch.stack([image[:, y : y + side, x : x + side] for y, x in corners])


def _taper(window: int, like: Tensor) -> Tensor:
    """Return how much a window's cells count where windows overlap, `q q`: most in the middle."""
    place = torch.arange(window, device=like.device)
    side = (torch.minimum(place, window - 1 - place) + 0.5).to(like.dtype)
    return side[:, None] * side[None]


def _touched(patches: Tensor, top: int, left: int, window: int) -> Tensor:
    """Return the part of a mask of patches (H, W) that a window touches."""
    return patches[top // window : -(-(top + window) // window), left // window : -(-(left + window) // window)]
