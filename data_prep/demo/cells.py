"""Sprites of the demo's cells: what haematoxylin and eosin one nucleus and its cytoplasm hold, seen from above.

A sprite is two small float32 maps of stain concentration (nucleus: haematoxylin, body: eosin). Each kind has a library
of shapes at a set of angles, so that drawing a slide is adding sprites to a canvas.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from data_prep.demo.shapes import periodic_noise

NUM_SHAPES = 16  # of each kind; the last of the tumour is a mitosis
NUM_ANGLES = 16  # over half a turn; every nucleus is nearly symmetric
REACH_PX = 32  # half the largest sprite, rounded up
MARGIN_PX = 2 * REACH_PX  # round a canvas: a cell may sit REACH_PX outside the strip and reach as far again


class Cell(IntEnum):
    """Name the kinds of cell that a slide is populated with."""

    LYMPHOCYTE = 0
    SPINDLE = 1  # fibroblast, muscle, endothelium, the rim of a fat cell
    EPITHELIUM = 2
    TUMOUR = 3
    DEBRIS = 4
    RED_CELL = 5
    PLASMA = 6
    FLAT = 7  # myoepithelium, endothelium of small vessels, fibroblasts of lobules


@dataclass(frozen=True, kw_only=True)
class CellKind:
    """Describe a kind: half axes in pixels (0.5 um), their spread, and how it takes the stains."""

    length_px: float
    width_px: float
    spread: float  # relative standard deviation of the size
    irregularity: float
    haematoxylin: float
    rim: float  # extra haematoxylin at the membrane
    clumping: float  # contrast of the chromatin
    nucleoli: float  # expected number
    body_px: float = 0.0  # half width of the cytoplasm beyond the nucleus
    eosin: float = 0.0


def cell_kinds(grade: float) -> dict[Cell, CellKind]:
    """Return the kinds of one patient; ``grade`` in 0..1 makes the tumour's nuclei larger, paler and less alike."""
    kind = CellKind
    return {
        Cell.LYMPHOCYTE: kind(
            length_px=6.4, width_px=6.0, spread=0.07, irregularity=0.03, haematoxylin=1.45, rim=0.1, clumping=0.25,
            nucleoli=0, body_px=1.5, eosin=0.08,
        ),
        Cell.SPINDLE: kind(
            length_px=13.0, width_px=3.1, spread=0.2, irregularity=0.06, haematoxylin=1.1, rim=0.1, clumping=0.18,
            nucleoli=0,
        ),
        Cell.FLAT: kind(
            length_px=7.0, width_px=2.5, spread=0.15, irregularity=0.05, haematoxylin=1.0, rim=0.1, clumping=0.15,
            nucleoli=0,
        ),
        Cell.EPITHELIUM: kind(
            length_px=7.8, width_px=5.5, spread=0.1, irregularity=0.03, haematoxylin=0.85, rim=0.25, clumping=0.2,
            nucleoli=0.4, body_px=5, eosin=0.12,
        ),
        Cell.TUMOUR: kind(
            length_px=8.6 + 2.4 * grade, width_px=7.2 + 1.8 * grade, spread=0.1 + 0.13 * grade,
            irregularity=0.05 + 0.06 * grade, haematoxylin=0.98 - 0.22 * grade, rim=0.25 + 0.2 * grade,
            clumping=0.2 + 0.12 * grade, nucleoli=0.6 + 1.2 * grade, body_px=6 + 2 * grade, eosin=0.15,
        ),
        Cell.DEBRIS: kind(
            length_px=3.4, width_px=2.6, spread=0.45, irregularity=0.25, haematoxylin=1.5, rim=0, clumping=0.1,
            nucleoli=0,
        ),
        Cell.RED_CELL: kind(
            length_px=6.6, width_px=6.2, spread=0.06, irregularity=0.05, haematoxylin=0, rim=0, clumping=0,
            nucleoli=0, body_px=0, eosin=1.25,
        ),
        Cell.PLASMA: kind(
            length_px=6.6, width_px=5.8, spread=0.08, irregularity=0.04, haematoxylin=1.3, rim=0.15, clumping=0.35,
            nucleoli=0, body_px=5, eosin=0.3,
        ),
    }  # fmt: skip


class SpriteLibrary:
    """Hold, for every kind, NUM_SHAPES x NUM_ANGLES sprites: nucleus and body, float32 (shape, angle, p, p)."""

    def __init__(self, rng: np.random.Generator, *, grade: float):
        chromatin = periodic_noise(rng, (256, 256), (1.1, 1.1))
        self.sprites = {
            cell: _draw_library(rng, kind, chromatin, is_mitotic=cell == Cell.TUMOUR)
            for cell, kind in cell_kinds(grade).items()
        }

    def stamp(self, nuclei: np.ndarray, bodies: np.ndarray, cells: np.ndarray, y0: int, x0: int) -> None:
        """Add ``cells`` (records of x, y, kind, shape, angle) to canvases that begin MARGIN_PX before y0, x0."""
        columns = [cells[name].tolist() for name in ("x", "y", "kind", "shape", "angle")]
        for x, y, kind, shape, angle in zip(*columns):
            nucleus, body = self.sprites[kind]
            reach = body.shape[-1] // 2
            top, left = y - y0 + MARGIN_PX - reach, x - x0 + MARGIN_PX - reach
            window = slice(top, top + 2 * reach), slice(left, left + 2 * reach)
            if nucleus is not None:
                nuclei[window] += nucleus[shape, angle]
            bodies[window] += body[shape, angle]


@dataclass(frozen=True, kw_only=True)
class Nucleus:
    """One nucleus of a kind: half axes in pixels, haematoxylin, harmonics of its outline, nucleoli, chromatin."""

    kind: CellKind
    half_length: float
    half_width: float
    strength: float
    harmonics: list[tuple[float, int, float]]  # amplitude, order, phase
    nucleoli: np.ndarray  # (n, 2), in half axes
    grain: np.ndarray  # of the sprite's size

    def draw(self, x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Return nucleus and body of the cell at an angle."""
        kind, half_length, half_width = self.kind, self.half_length, self.half_width
        along = x * np.cos(angle) + y * np.sin(angle)
        across = -x * np.sin(angle) + y * np.cos(angle)
        theta = np.arctan2(across / half_width, along / half_length)
        bulge = 1 + sum(w * np.cos(k * theta + p) for w, k, p in self.harmonics)
        rho = np.hypot(along / half_length, across / half_width) / bulge
        inside = np.clip((1 - rho) * half_width * 0.8 + 0.5, 0, 1)
        rim = kind.rim * np.exp(-(((rho - 0.86) / 0.13) ** 2))
        level = self.strength * (1 + kind.clumping * self.grain) + rim
        for at in self.nucleoli:
            distance = np.hypot(along - at[0] * half_length, across - at[1] * half_width)
            level = level + 0.75 * np.clip(2.1 - distance, 0, 1)
        if kind.haematoxylin:
            gap = np.hypot(along, across) - np.sqrt(half_length * half_width)
            body = kind.eosin * np.clip((kind.body_px - gap) / 2.5, 0, 1)
        else:  # a red cell: a biconcave disc
            body = kind.eosin * inside * (0.8 + 0.3 * rho**2)
        return inside * np.clip(level, 0, 2.4), body


def _draw_nucleus(
    rng: np.random.Generator, kind: CellKind, chromatin: np.ndarray, *, reach: int, is_plate: bool
) -> Nucleus:
    """Draw one nucleus; a plate is that of a mitosis."""
    size = np.clip(1 + kind.spread * rng.standard_normal(), 1 - 2 * kind.spread, 1 + 2 * kind.spread)
    half_length = kind.length_px * size * rng.uniform(0.94, 1.06)
    half_width = kind.width_px * size * rng.uniform(0.9, 1.1)
    strength = kind.haematoxylin * rng.uniform(0.78, 1.22)
    if is_plate:
        half_length, half_width, strength = kind.length_px * 0.95, kind.width_px * 0.35, 1.9
    orders = np.array([2, 3, 4, 5])
    wobble = rng.standard_normal(4) * kind.irregularity * 2 / orders
    phase = rng.uniform(0, 2 * np.pi, 4)
    nucleoli = rng.uniform(-0.5, 0.5, (rng.poisson(0 if is_plate else kind.nucleoli), 2))
    top, left = rng.integers(0, 256 - 2 * reach, 2)
    return Nucleus(
        kind=kind,
        half_length=half_length,
        half_width=half_width,
        strength=strength,
        harmonics=list(zip(wobble, orders, phase)),
        nucleoli=nucleoli,
        grain=chromatin[top : top + 2 * reach, left : left + 2 * reach],
    )


def _draw_library(
    rng: np.random.Generator, kind: CellKind, chromatin: np.ndarray, *, is_mitotic: bool
) -> tuple[np.ndarray | None, np.ndarray]:
    """Draw one kind's nuclei (None of a kind without) and bodies; the last shape of a dividing kind is a plate."""
    largest = kind.length_px * (1 + 2 * kind.spread) + kind.body_px + 2
    reach = min(int(np.ceil(largest)), REACH_PX)
    y, x = np.mgrid[-reach:reach, -reach:reach].astype(np.float32) + 0.5
    nuclei, bodies = np.empty((2, NUM_SHAPES, NUM_ANGLES, 2 * reach, 2 * reach), np.float32)
    for shape in range(NUM_SHAPES):
        is_plate = is_mitotic and shape == NUM_SHAPES - 1
        drawn = _draw_nucleus(rng, kind, chromatin, reach=reach, is_plate=is_plate)
        for number, angle in enumerate(np.arange(NUM_ANGLES) * np.pi / NUM_ANGLES):
            nuclei[shape, number], bodies[shape, number] = drawn.draw(x, y, angle)
    return (nuclei if kind.haematoxylin else None), bodies
