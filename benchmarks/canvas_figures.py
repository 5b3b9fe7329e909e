"""Figures of drawn slides, level by level, each with the error of leaving one root out.

Legend: n patches, p a patch's side (px), h w sides of an area (px).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import reduce

from benchmarks.slides import PATCH_PX, patches
from zoomldm.canvas.settings import Glass
from zoomldm.evaluation.distances import frechet, kid, precision_recall
from zoomldm.evaluation.errors import jackknife_error
from zoomldm.features.base import Descriptor

GLASS = Glass(brightness=225, chroma=16)
LEAST = 80
"""Patches that a Fréchet distance of 20 numbers needs, as in evaluations."""
Figure = tuple[float, float | None]
"""A value and its standard error."""


@dataclass(frozen=True)
class Area:
    """Patches side by side.

    Attributes:
        pixels: uint8 (h, w, 3); above: the same place a level above, uint8 (h/2, w/2, 3), where there is one.
        is_whole: it is all of a root.
    """

    pixels: np.ndarray
    above: np.ndarray | None = None
    is_whole: bool = False


Root = Mapping[str, Sequence[Area]]
"""Of a root, a place or a patient the areas of each magnification that it has."""


def over_roots(statistic: Callable[[Sequence[Any]], float], parts: Sequence[Any]) -> Figure:
    """Take a figure of all roots, and again without each of them."""
    value = float(statistic(parts))
    if len(parts) < 3 or not np.isfinite(value):
        return value, None
    return value, jackknife_error([statistic([*parts[:i], *parts[i + 1 :]]) for i in range(len(parts))])


def with_tissue(area: Area, least: float) -> np.ndarray:
    """Return the patches of an area (n, p, p, 3) of which at least a part is no glass, as in preparation."""
    cut = patches(area.pixels)
    values = cut.astype(np.int16)
    clear = (values.min(-1) >= GLASS.brightness) & (np.ptp(values, -1) <= GLASS.chroma)
    return cut[1 - clear.mean((1, 2)) >= least]


class Figures:
    """Compare rows with real patches of a data set.

    Args:
        reference: vectors of real patches by magnification; least_tissue: part of a patch, by magnification.
        num: patches of a row and magnification, at most: as many of each root.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        reference: Mapping[str, np.ndarray],
        least_tissue: Mapping[str, float],
        *,
        num: int,
    ) -> None:
        self.descriptor, self.reference, self.least_tissue, self.num = descriptor, reference, least_tissue, num

    def of(self, roots: Sequence[Root], label: str) -> Iterator[tuple[str, Figure]]:
        """Yield the figures of a row at a magnification: name, value and error."""
        areas = [root[label] for root in roots if label in root]
        vectors = self._vectors(areas, label)
        count = sum(map(len, vectors))
        yield "patches", (count, None)
        if count >= LEAST:
            reference = self.reference[label]
            yield "fd_texture", over_roots(lambda some: frechet(np.concatenate(some), reference), vectors)
            found = precision_recall(np.concatenate(vectors).astype(np.float32), reference.astype(np.float32))
            yield from (("precision", (found[0], None)), ("recall", (found[1], None)))
        yield "gradient", over_roots(lambda some: _ratio(some, inside_and_across)[0], areas)
        if any(area.pixels.shape[0] > PATCH_PX for of_root in areas for area in of_root):
            yield "borders", over_roots(_borders, areas)
        if all(area.above is not None for of_root in areas for area in of_root):
            yield "agreement", over_roots(_agreement, areas)

    def of_whole(self, roots: Sequence[Root], label: str, root_label: str) -> Iterator[tuple[str, Figure]]:
        """Yield what whole roots look like, brought to a patch's size."""
        whole = [[area.pixels for area in root.get(label, ()) if area.is_whole] for root in roots]
        small = [self.descriptor.describe(np.stack([shrunk(one) for one in some])) for some in whole if some]
        if len(small) >= 3:
            reference = self.reference[root_label]
            yield "whole", over_roots(lambda some: kid(np.concatenate(some), reference).value, small)

    def _vectors(self, areas: Sequence[Sequence[Area]], label: str) -> list[np.ndarray]:
        """Return vectors of patches with tissue, of each root about equally many."""
        generator, each = np.random.default_rng(0), max(1, self.num // len(areas))
        found = []
        for of_root in areas:
            some = np.concatenate([with_tissue(area, self.least_tissue[label]) for area in of_root])
            some = some[np.sort(generator.permutation(len(some))[:each])]
            if len(some):
                found.append(self.descriptor.describe(some))
        return found


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Bring an area to a patch's size by means, uint8 (p, p, 3)."""
    mean = reduce(pixels.astype(np.float32), "(p y) (q x) c -> p q c", "mean", p=PATCH_PX, q=PATCH_PX)
    return np.rint(mean).astype(np.uint8)


def halved(pixels: np.ndarray) -> np.ndarray:
    """Give the means of 2 x 2 pixels, float32 (h/2, w/2, 3)."""
    return reduce(pixels.astype(np.float32), "(h y) (w x) c -> h w c", "mean", y=2, x=2)


def inside_and_across(area: Area) -> np.ndarray:
    """Return sums and numbers of differences of neighbours, within patches and across their borders, (2, 2)."""
    found = np.zeros((2, 2))
    for axis in (0, 1):
        steps = np.abs(np.diff(area.pixels.astype(np.float32), axis=axis)).mean((1 - axis, 2))
        is_border = np.arange(1, len(steps) + 1) % PATCH_PX == 0
        for place, chosen in enumerate((~is_border, is_border)):
            found[place] += steps[chosen].sum(), chosen.sum()
    return found


def _ratio(areas: Sequence[Sequence[Area]], sums: Callable[[Area], np.ndarray]) -> np.ndarray:
    total = np.sum([sums(area) for of_root in areas for area in of_root], axis=0)
    return total[:, 0] / np.maximum(total[:, 1], 1)


def _borders(areas: Sequence[Sequence[Area]]) -> float:
    inside, across = _ratio(areas, inside_and_across)
    return across / inside


def _agreement(areas: Sequence[Sequence[Area]]) -> float:
    """Return the root mean square of what the means of 2 x 2 pixels lack of the level above, grey levels."""

    def squares(area: Area) -> np.ndarray:
        lack = halved(area.pixels) - area.above
        return np.array([[np.square(lack).sum(), lack.size]])

    return float(np.sqrt(_ratio(areas, squares)[0]))


def tables(figures: Mapping[str, Mapping[str, Mapping[str, Figure]]], labels: Sequence[str]) -> Iterator[str]:
    """Yield the lines of one Markdown table a figure; figures: name -> row -> magnification -> value and error."""
    for name, rows in figures.items():
        yield from ("", f"**{name}**", "", "| |" + "".join(f" {label} |" for label in labels))
        yield "|---|" + "---:|" * len(labels)
        for row, found in rows.items():
            yield f"| {row} |" + "".join(f" {_said(found.get(label))} |" for label in labels)


def _said(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    value, error = figure
    if float(value).is_integer() and error is None:
        return f"{value:.0f}"
    return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.1g}"
