"""What a family of weight files holds: every key, its shape, and where it goes. Free of torch, so inspection is fast.

A layout is a list of rows computed from a few dimensions. It serves three ends: it converts keys, it tells what is
missing or left over, and it recognises a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Dims = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One tensor: its key and shape in the original file, and the key it has in the module it is loaded into.

    `change` says what happens to the values on the way: nothing, or "squeeze" (a 1x1 convolution becomes a linear
    layer), or "resize" (the owner of the module resizes it, e.g. a position embedding).
    """

    source: str
    target: str
    shape: Shape
    change: Literal["", "squeeze", "resize"] = ""

    @property
    def target_shape(self) -> Shape:
        return self.shape[:2] if self.change == "squeeze" else self.shape


@dataclass(frozen=True)
class Variant:
    """One way in which a file spells a family's keys: `spell(key)` is the key in the file."""

    name: str
    spell: Callable[[str], str]


def prefixed(prefix: str) -> Variant:
    """Make the variant whose keys begin with a prefix."""
    return Variant(f"{prefix}*" if prefix else "plain keys", lambda key: prefix + key)


@dataclass(frozen=True)
class Family:
    """A kind of weights: how its keys are spelt, how its dimensions are read off, which rows follow from them.

    Attributes:
        name: what a person calls it.
        variants: the spellings to look for, the preferred one first.
        infer: dimensions from the shapes of one variant (keys respelt as `Row.source`), or None if it is not there.
        rows: the rows that follow from the dimensions.
        loads_into: what a user does with it.
        ignored: parts of keys which the original saves, but which are computed here.
    """

    name: str
    variants: Sequence[Variant]
    infer: Callable[[Shapes], Dims | None]
    rows: Callable[[Dims], list[Row]]
    loads_into: str
    ignored: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """A family found in a file, under one variant: what is there, what is missing, what has another shape."""

    family: Family
    variant: Variant
    dims: Dims
    rows: list[Row]
    missing: list[str]
    reshaped: list[tuple[str, Shape, Shape]]

    @property
    def num_parameters(self) -> int:
        """Count the numbers in the rows that are present."""
        absent = set(self.missing)
        return sum(numel(row.shape) for row in self.rows if self.variant.spell(row.source) not in absent)

    @property
    def keys(self) -> set[str]:
        return {self.variant.spell(row.source) for row in self.rows}


def find_part(family: Family, variant: Variant, shapes: Shapes, dims: Dims | None = None) -> Part | None:
    """Look for a family in a file's shapes; `dims` are read off the file unless given."""
    if dims is None:
        dims = family.infer(Respelt(shapes, variant))
    if dims is None:
        return None
    rows = family.rows(dims)
    missing, reshaped = [], []
    for row in rows:
        key = variant.spell(row.source)
        if key not in shapes:
            missing.append(key)
        elif tuple(shapes[key]) != row.shape:
            reshaped.append((key, tuple(shapes[key]), row.shape))
    return None if len(missing) == len(rows) else Part(family, variant, dims, rows, missing, reshaped)


class Respelt:
    """A file's shapes under the keys of `Row.source`: `key in s`, `s[key]`, `s.get(key)`."""

    def __init__(self, shapes: Shapes, variant: Variant) -> None:
        self._shapes, self._variant = shapes, variant

    def __contains__(self, key: str) -> bool:
        return self._variant.spell(key) in self._shapes

    def __getitem__(self, key: str) -> Shape:
        return tuple(self._shapes[self._variant.spell(key)])

    def get(self, key: str) -> Shape | None:
        spelt = self._variant.spell(key)
        return tuple(self._shapes[spelt]) if spelt in self._shapes else None


def first_shape(shapes: Any, *keys: str) -> Shape | None:
    """Return the shape of the first key that is there, so that one missing tensor does not hide a family."""
    return next((shapes[key] for key in keys if key in shapes), None)


def linear(source: str, target: str, out_dim: int, in_dim: int, *, bias: bool = True) -> list[Row]:
    """Rows of a linear layer."""
    rows = [Row(f"{source}.weight", f"{target}.weight", (out_dim, in_dim))]
    return [*rows, Row(f"{source}.bias", f"{target}.bias", (out_dim,))] if bias else rows


def conv(source: str, target: str, out_dim: int, in_dim: int, side: int, *, squeeze: bool = False) -> list[Row]:
    """Rows of a square convolution."""
    change = "squeeze" if squeeze else ""
    return [
        Row(f"{source}.weight", f"{target}.weight", (out_dim, in_dim, side, side), change),
        Row(f"{source}.bias", f"{target}.bias", (out_dim,)),
    ]


def norm(source: str, target: str, dim: int) -> list[Row]:
    """Rows of a normalisation layer with scale and shift."""
    return [Row(f"{source}.weight", f"{target}.weight", (dim,)), Row(f"{source}.bias", f"{target}.bias", (dim,))]


def numel(shape: Shape) -> int:
    """Count the numbers of a tensor."""
    total = 1
    for side in shape:
        total *= side
    return total
