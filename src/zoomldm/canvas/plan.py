"""The plan of a synthetic slide: levels from the root to the target, blocks of patches, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder, Rung

_PLACE_BITS = 26


@dataclass(frozen=True)
class Block:
    """Patches (rows top to bottom, columns left to right) of a level; ends are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def name(self) -> str:
        return f"{self.top:05d}-{self.left:05d}"

    @property
    def num_patches(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def slices(self, side: int = 1) -> tuple[slice, slice]:
        """Return where its rows and columns lie in an array that has ``side`` of them a patch."""
        return slice(self.top * side, self.bottom * side), slice(self.left * side, self.right * side)


@dataclass(frozen=True)
class Level:
    """One magnification of the slide.

    Attributes:
        depth: 0 for the roots, one more for each level below.
        rows, columns: its patches.
        part: those that are drawn; blocks are counted from its corner.
    """

    depth: int
    rung: Rung
    rows: int
    columns: int
    patch_px: int
    part: Block

    @property
    def is_whole(self) -> bool:
        return self.part == Block(0, 0, self.rows, self.columns)

    @property
    def height_px(self) -> int:
        return self.rows * self.patch_px

    @property
    def width_px(self) -> int:
        return self.columns * self.patch_px

    def number(self, row: int, column: int) -> int:
        """Return the number that keys the noise of a patch."""
        return (((self.depth << _PLACE_BITS) | row) << _PLACE_BITS) | column

    def blocks(self, side: int) -> Iterator[Block]:
        """Yield the blocks of ``side`` x ``side`` patches that are drawn, row by row."""
        for top in range(self.part.top, self.part.bottom, side):
            for left in range(self.part.left, self.part.right, side):
                yield self.block(top, left, side)

    def block(self, top: int, left: int, side: int) -> Block:
        """Return the block of ``side`` x ``side`` patches from a corner on, as far as is drawn."""
        return Block(top, left, min(top + side, self.part.bottom), min(left + side, self.part.right))

    def with_halo(self, block: Block, halo: int) -> Block:
        """Return a block and ``halo`` patches around it, as far as is drawn."""
        return Block(
            max(self.part.top, block.top - halo),
            max(self.part.left, block.left - halo),
            min(self.part.bottom, block.bottom + halo),
            min(self.part.right, block.right + halo),
        )


def levels_of(ladder: Ladder, *, root: Rung, target: Rung, rows: int, columns: int) -> list[Level]:
    """Return the levels from ``rows`` x ``columns`` roots down to the target.

    Raises:
        ConfigError: a target above the root.
    """
    if target.index > root.index:
        raise ConfigError(
            f"target={target.magnification:g}: lies above root={root.magnification:g}; a slide grows from a low "
            "magnification to a higher one"
        )
    if max(rows, columns) << (root.index - target.index) >= 1 << _PLACE_BITS:
        raise ConfigError(f"roots={rows}x{columns}: more patches than a slide can have (2^{_PLACE_BITS} along a side)")
    return [
        Level(
            depth,
            ladder[root.index - depth],
            rows << depth,
            columns << depth,
            ladder.patch_px,
            Block(0, 0, rows << depth, columns << depth),
        )
        for depth in range(root.index - target.index + 1)
    ]


def in_part(levels: Sequence[Level], box: tuple[int, int, int, int], overview: Rung) -> list[Level]:
    """Return levels of which only a part is drawn below the roots and the overview: the patches over a box.

    Args:
        box: left, top, width and height in pixels of the last level.
        overview: the finest magnification that is drawn whole.
    """
    left, top, width, height = box
    parts = []
    for level in levels:
        side = level.patch_px << (levels[-1].depth - level.depth)
        part = Block(top // side, left // side, -(-(top + height) // side), -(-(left + width) // side))
        is_whole = level.depth == 0 or level.rung.index >= overview.index
        parts.append(level if is_whole else replace(level, part=part))
    return parts
