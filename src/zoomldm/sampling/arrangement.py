"""Which conditions a patch has, and which noise: one each, several patches of one, or strips between two.

Legend: b patches, c conditions, n tokens, d token width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST_ROW = 8
"""Variations that stand in one row of a contact sheet."""


@dataclass(frozen=True)
class Blend:
    """The condition of a patch: ``part`` of the way from one to another."""

    first: int
    second: int
    part: float = 0.0


class Arrangement(ABC):
    """Patches of a magnification are numbered from 0 on, and so are the conditions.

    Attributes:
        label: what it is called in folders.
        row: patches in a row of a contact sheet; None: as many as make it square.
    """

    label = ""
    row: int | None = None

    @abstractmethod
    def num_patches(self, wanted: int, num_conditions: int | None) -> int:
        """Return how many patches are made of so many conditions (None: any number)."""

    @abstractmethod
    def blend(self, place: int) -> Blend:
        """Return the condition of a patch."""

    def noise(self, place: int) -> int:
        """Return the number that keys a patch's noise: patches of one number differ by their conditions alone."""
        return place

    def conditions(self, places: range) -> range:
        """Return the conditions of consecutive patches."""
        return range(self.blend(places[0]).first, self.blend(places[-1]).second + 1)

    def tokens(self, tokens: Tensor, places: range) -> Tensor:
        """Return each patch's tokens `b n d` from those of ``conditions(places)``, `c n d`."""
        start, blends = self.conditions(places).start, [self.blend(place) for place in places]
        first = torch.tensor([blend.first - start for blend in blends], device=tokens.device)
        if not any(blend.part for blend in blends):
            return tokens[first]
        second = torch.tensor([blend.second - start for blend in blends], device=tokens.device)
        part = torch.tensor([blend.part for blend in blends], device=tokens.device)
        return slerp(tokens[first], tokens[second], part)


class OneEach(Arrangement):
    """Every patch has a condition of its own."""

    def num_patches(self, wanted: int, num_conditions: int | None) -> int:
        return wanted if num_conditions is None else min(wanted, num_conditions)

    def blend(self, place: int) -> Blend:
        return Blend(place, place)


class Variations(Arrangement):
    """``num`` patches in a row share a condition; their noise differs."""

    def __init__(self, num: int) -> None:
        self.num, self.label = num, f"variations{num}"
        self.row = num if num <= LONGEST_ROW else None

    def num_patches(self, wanted: int, num_conditions: int | None) -> int:
        return wanted if num_conditions is None else min(wanted, num_conditions * self.num)

    def blend(self, place: int) -> Blend:
        return Blend(place // self.num, place // self.num)


class Strips(Arrangement):
    """``length`` patches in a row lead from one condition to the next one, of one noise."""

    def __init__(self, length: int) -> None:
        self.length, self.label, self.row = length, f"interpolate{length}", length

    def num_patches(self, wanted: int, num_conditions: int | None) -> int:
        strips = max(1, wanted // self.length)
        return self.length * (strips if num_conditions is None else min(strips, num_conditions // 2))

    def blend(self, place: int) -> Blend:
        strip, step = divmod(place, self.length)
        return Blend(2 * strip, 2 * strip + 1, step / (self.length - 1))

    def noise(self, place: int) -> int:
        return place // self.length


def slerp(first: Tensor, second: Tensor, part: Tensor) -> Tensor:
    """Go ``part`` (b,) of the way between tokens `b n d`, each along its great circle; straight where it has none.

    sin((1 - t)θ)/sin θ · first + sin(tθ)/sin θ · second, θ the angle between the two: 0 gives the first, 1 the second.
    """
    a, b, t = first.float(), second.float(), part[:, None, None].float()
    angle = torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1))[..., None]
    sine = torch.sin(angle)
    is_flat = sine < 1e-4
    safe = torch.where(is_flat, torch.ones_like(sine), sine)
    of_a = torch.where(is_flat, 1 - t, torch.sin((1 - t) * angle) / safe)
    of_b = torch.where(is_flat, t, torch.sin(t * angle) / safe)
    return (of_a * a + of_b * b).to(first.dtype)
