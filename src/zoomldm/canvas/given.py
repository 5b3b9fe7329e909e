"""What a slide begins with, where it is not drawn out of nothing: pixels that stay, and tokens that are known.

Legend: H W patches of a level, h w its sides (px), p a patch's side (px), n tokens, d their width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from einops import rearrange, reduce

from zoomldm.canvas.plan import Level
from zoomldm.data.batch import Batch
from zoomldm.sampling.sources.base import AreaLevel

TokensOf = Callable[[Batch], np.ndarray]
"""Conditions of patches -> tokens (b, n, d)."""
Found = Callable[[np.ndarray, np.ndarray, Level], np.ndarray]
"""Patches uint8 (b, p, p, 3), bool (b, p, p) of the pixels that are seen, their level -> tokens (b, n, d)."""


@dataclass(frozen=True)
class GivenLevel:
    """What is known of a level before it is drawn.

    Attributes:
        pixels: uint8 (h, w, 3); held: bool (h, w): those that stay.
        tokens: float32 (H, W, n, d); known: bool (H, W): the patches that have them.
    """

    pixels: np.ndarray
    held: np.ndarray
    tokens: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Given:
    """A place that a slide is drawn of.

    Attributes:
        areas: of the levels, coarsest first: of the roots alone where ``drawn`` is None.
        drawn: bool (h, w), pixels of the finest level that are drawn anew, on every level; the others stay. None: the
            roots stay, and all below them is drawn.
        other: areas of another place by magnification, whose tokens the patches that are drawn get there.
        facts: what the metadata say of the place.
    """

    areas: Sequence[AreaLevel]
    drawn: np.ndarray | None = None
    other: Mapping[float, AreaLevel] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return what stands for all of it, as JSON values."""
        other = {f"tokens at {key:g}": _sha256(area.pixels) for key, area in sorted(self.other.items())}
        drawn = {} if self.drawn is None else {"drawn anew": _sha256(self.drawn)}
        return {"pixels": _sha256(self.areas[0].pixels)} | drawn | other

    def levels(self, levels: Sequence[Level], tokens_of: TokensOf, found: Found) -> list[GivenLevel]:
        """Return what is known of the first levels: as many as there are areas.

        Args:
            found: gives the tokens of roots by their pixels, where they are not known whole.
        """
        known = [self._level(level, area, tokens_of) for level, area in zip(levels, self.areas)]
        return [self._with_roots(known[0], levels[0], found), *known[1:]]

    def _level(self, level: Level, area: AreaLevel, tokens_of: TokensOf) -> GivenLevel:
        held = np.ones(area.pixels.shape[:2], bool)
        if self.drawn is not None:
            factor = self.drawn.shape[0] // level.height_px
            held = ~reduce(self.drawn, "(h a) (w b) -> h w", "max", a=factor, b=factor)
        sizes = {"H": level.rows, "W": level.columns}
        is_held = reduce(held, "(H y) (W x) -> H W", "min", **sizes)
        other = self.other.get(level.rung.magnification)
        conditions = area.conditions if other is None else other.conditions
        known = is_held if other is None and not self._is_all_drawn else np.ones_like(is_held)
        if conditions is None:
            return GivenLevel(area.pixels, held, np.zeros((level.rows, level.columns, 0, 0), np.float32), known & False)
        return GivenLevel(area.pixels, held, rearrange(tokens_of(conditions), "(H W) n d -> H W n d", **sizes), known)

    @property
    def _is_all_drawn(self) -> bool:
        return self.drawn is not None and bool(self.drawn.all())

    def _with_roots(self, roots: GivenLevel, level: Level, found: Found) -> GivenLevel:
        """Find the tokens of roots that are seen in part, or have no embedding."""
        sizes = {"H": level.rows, "W": level.columns}
        seen = rearrange(roots.held, "(H y) (W x) -> H W y x", **sizes)
        lacks = ~roots.known & seen.any((2, 3))
        if not lacks.any():
            return roots
        patches = rearrange(roots.pixels, "(H y) (W x) c -> H W y x c", **sizes)
        tokens = found(patches[lacks], seen[lacks], level)
        known = np.zeros((level.rows, level.columns, *tokens.shape[1:]), np.float32)
        known[roots.known] = roots.tokens[roots.known] if roots.known.any() else 0
        known[lacks] = tokens
        return GivenLevel(roots.pixels, roots.held, known, roots.known | lacks)


def filled(patches: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Give patches (b, p, p, 3) the mean of what is seen of each, bool (b, p, p), where it is not."""
    weight = seen[..., None]
    mean = (patches * weight).sum((1, 2), keepdims=True) / np.maximum(weight.sum((1, 2), keepdims=True), 1)
    return np.where(weight, patches, np.rint(mean)).astype(np.uint8)


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
