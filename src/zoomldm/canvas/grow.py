"""Grow a slide: level after level, first the tokens of each patch out of its parent's, then the pixels.

Blocks of a level do not depend on each other, only on the level above, so that any number of processes shares them and
draws the same pixels; what is drawn is kept, so that a stopped run goes on.
Legend: H W patches of a block, n tokens, d their width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import reduce
from torch import Tensor

from zoomldm.canvas.blend import blended
from zoomldm.canvas.glass import glass_patches
from zoomldm.canvas.plan import Block, Level
from zoomldm.canvas.region import Region, RegionSampler
from zoomldm.canvas.settings import Glass, LevelSettings
from zoomldm.canvas.store import PIXELS, REGION, TOKENS, CanvasStore
from zoomldm.data.pixels import to_float
from zoomldm.files import progress
from zoomldm.model.zooming import ZoomingEDM
from zoomldm.sampling.settings import Sampling


@dataclass(frozen=True, kw_only=True)
class Tree:
    """How tokens are drawn down the ladder.

    Attributes:
        sampling: of children; root_sampling: of roots, which have no parent.
    """

    edm: ZoomingEDM
    sampling: Sampling
    root_sampling: Sampling
    seed: int
    device: torch.device

    def roots(self, level: Level, block: Block) -> np.ndarray:
        """Draw the tokens of root patches, float32 (H, W, n, d)."""
        numbers = _numbers(level, block).flatten().to(self.device)
        options = self.root_sampling.options(self.seed, level.rung.index)
        with torch.inference_mode():
            tokens = self.edm.sample(torch.full_like(numbers, level.rung.index), numbers, **options)
        return _laid_out(tokens, block)

    def children(self, level: Level, block: Block, parents: np.ndarray) -> np.ndarray:
        """Draw the tokens of a block, float32 (H, W, n, d), out of those of the patches above it.

        Args:
            parents: of the area ``above(block)``.
        """
        rows, columns = torch.meshgrid(
            torch.arange(block.top, block.bottom), torch.arange(block.left, block.right), indexing="ij"
        )
        area = above(block)
        own = torch.from_numpy(parents)[rows // 2 - area.top, columns // 2 - area.left].flatten(0, 1)
        quadrant = (2 * (rows % 2) + columns % 2).flatten()
        numbers = _numbers(level, block).flatten().to(self.device)
        options = self.sampling.options(self.seed, level.rung.index)
        with torch.inference_mode():
            tokens = self.edm.sample_children(
                own.to(self.device),
                quadrant.to(self.device),
                torch.full_like(numbers, level.rung.index),
                numbers,
                **options,
            )
        return _laid_out(tokens, block)


@dataclass(frozen=True, kw_only=True)
class Grower:
    """Draw the levels of a slide into a store.

    Attributes:
        settings: how the patches of a level are drawn.
        halo: patches that a region has around its block.
        rank, num_processes: which blocks are this process's; wait: until all processes are here.
    """

    store: CanvasStore
    tree: Tree
    sampler: RegionSampler
    settings: Callable[[Level], LevelSettings]
    glass: Glass
    halo: int
    rank: int = 0
    num_processes: int = 1
    wait: Callable[[], Any] = lambda: None

    def draw(self, level: Level, parent: Level | None) -> None:
        """Draw a level under the one above it, which is whole; a root level has none."""
        label = level.rung.label
        self._share(
            level,
            TOKENS,
            f"{label}: tokens",
            lambda block: self.store.write_tokens(level, block, self._tokens(level, block, parent)),
        )
        if not self.store.lacks(level, PIXELS):
            return
        self._share(
            level,
            REGION,
            f"{label}: patches",
            lambda block: self.store.write_image(
                level, block, REGION, self.sampler.draw(self._region(level, block, parent), self.settings(level))
            ),
        )
        self._share(
            level,
            PIXELS,
            f"{label}: borders",
            lambda block: self.store.write_image(level, block, PIXELS, blended(self.store, level, block, self.halo)),
        )
        if self.rank == 0:
            self.store.forget_regions(level)
        self.wait()

    def _share(self, level: Level, kind: str, title: str, make: Callable[[Block], None]) -> None:
        """Make what a level lacks of a kind, each process its blocks, and wait for the others."""
        todo: Sequence[Block] = self.store.lacks(level, kind)
        self.wait()  # before anybody writes: all have the same list
        mine = todo[self.rank :: self.num_processes]
        for block in progress(mine, total=len(mine), label=title, unit="block", shown=self.rank == 0):
            make(block)
        self.wait()

    def _tokens(self, level: Level, block: Block, parent: Level | None) -> np.ndarray:
        given = self.store.given(level)
        known = None if given is None else given.known[block.slices()]
        if given is not None and known.all():
            return given.tokens[block.slices()]
        if parent is None:
            drawn = self.tree.roots(level, block)
        else:
            drawn = self.tree.children(level, block, self.store.tokens(parent, above(block)))
        if given is not None and known.any():
            drawn[known] = given.tokens[block.slices()][known]
        return drawn

    def _region(self, level: Level, block: Block, parent: Level | None) -> Region:
        area = level.with_halo(block, self.halo)
        rows, columns = area.bottom - area.top, area.right - area.left
        tokens = torch.from_numpy(self.store.tokens(level, area))
        needed, image, stays, held = np.ones((rows, columns), bool), None, None, None
        if parent is not None:
            half = level.patch_px // 2
            bounds = (bound * half for bound in (area.top, area.left, area.bottom, area.right))
            pixels = self.store.window(parent, *bounds)
            needed, image = ~glass_patches(pixels, rows, columns, self.glass), _as_image(pixels)
        if (given := self.store.given(level)) is not None:
            inside = area.slices(level.patch_px)
            stays, held = _as_image(given.pixels[inside]), torch.from_numpy(given.held[inside].copy())
            needed &= ~reduce(given.held[inside], "(H y) (W x) -> H W", "min", H=rows, W=columns)
        return Region(
            parent=image,
            tokens=tokens,
            numbers=_numbers(level, area),
            needed=torch.from_numpy(needed),
            stays=stays,
            held=held,
        )


def above(block: Block) -> Block:
    """Return the patches of the level above that a block lies under."""
    return Block(block.top // 2, block.left // 2, -(-block.bottom // 2), -(-block.right // 2))


def _as_image(pixels: np.ndarray) -> Tensor:
    """Bring pixels (h, w, 3) to `3 h w` in [-1, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))


def _numbers(level: Level, area: Block) -> Tensor:
    """Return the numbers that key the noise of an area's patches, int64 (H, W)."""
    return torch.tensor(
        [[level.number(row, column) for column in range(area.left, area.right)] for row in range(area.top, area.bottom)]
    )


def _laid_out(tokens: Tensor, block: Block) -> np.ndarray:
    return tokens.float().cpu().numpy().reshape(block.bottom - block.top, block.right - block.left, *tokens.shape[1:])
