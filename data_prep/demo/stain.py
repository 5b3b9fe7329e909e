"""Light through the demo's sections: stain vectors per patient, concentrations per pixel, and Beer-Lambert to RGB.

Every pixel is glass(y, x) * exp(-(h * H + e * E)) with concentrations h, e >= 0: no colour is ever painted.
"""

from dataclasses import dataclass

import numpy as np

from data_prep.demo.anatomy import Tissue
from data_prep.demo.blueprint import Blueprint
from data_prep.demo.cells import MARGIN_PX, REACH_PX, SpriteLibrary
from data_prep.demo.fields import FIELD_PX
from data_prep.demo.patient import Patient, spread_draws
from data_prep.demo.shapes import interpolate, periodic_noise

# Optical density per unit of stain, by channel (R, G, B), after Ruifrok & Johnston 2001 and Macenko et al. 2009.
HAEMATOXYLIN = np.array([0.61, 0.70, 0.36])
EOSIN = np.array([0.12, 0.89, 0.45])
GRAIN_PX = 512  # period of the noise
MOST_NUCLEAR_STAIN = 1.8

# tissue: eosin, haematoxylin, how far fibres modulate eosin, granularity of the cytoplasm, whether anything is there
TISSUE_STAINS = {
    Tissue.GLASS: (0, 0, 0, 0, 0),
    Tissue.STROMA: (0.10, 0.05, 0.62, 0.05, 1),
    Tissue.DENSE: (0.42, 0.05, 0.36, 0.04, 1),
    Tissue.LOOSE: (0.20, 0.14, 0.22, 0.06, 1),
    Tissue.FAT: (0, 0, 0, 0, 0),
    Tissue.EPITHELIUM: (0.30, 0.30, 0, 0.09, 1),
    Tissue.LUMEN: (0, 0, 0, 0, 0),
    Tissue.SECRETION: (0.50, 0.06, 0, 0.05, 1),
    Tissue.TUMOUR: (0.32, 0.19, 0, 0.10, 1),
    Tissue.NECROSIS: (0.72, 0.14, 0, 0.22, 1),
    Tissue.MUSCLE: (0.48, 0.10, 0.30, 0.05, 1),
    Tissue.BLOOD: (0.02, 0, 0, 0.01, 1),
}


@dataclass(frozen=True)
class Stain:
    """Hold one laboratory's stains: density per unit (2, 3), strength of each (2,), colour of the glass (3,)."""

    vectors: np.ndarray
    strength: np.ndarray
    glass: np.ndarray


def draw_stain(seed: int, number: int) -> Stain:
    """Draw the stain of patient ``number``: hue of both dyes, their strength, the thickness of the cut, the lamp."""
    draws = spread_draws(seed, number, 6, stream=11) - 0.5
    vectors = np.stack([
        HAEMATOXYLIN + draws[0] * np.array([0.18, -0.10, -0.12]),
        EOSIN + draws[1] * np.array([0.14, -0.10, 0.22]),
    ])  # fmt: skip
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    thickness = 1 + 0.3 * draws[2]
    strength = thickness * np.array([1.25 + 0.4 * draws[3], 1.0 + 0.5 * draws[4]])
    return Stain(vectors, strength, np.array([246.0, 243.5, 245.0]) + draws[5] * np.array([4, 2, -3]))


class Renderer:
    """Draw a slide from its blueprint, in blocks; the picture does not depend on their size (at most GRAIN_PX)."""

    def __init__(self, patient: Patient, blueprint: Blueprint, *, block_px: int = GRAIN_PX):
        rng = patient.generator(stream=12)
        self.blueprint, self.block_px = blueprint, block_px
        self.stain = draw_stain(patient.seed, patient.number)
        self.sprites = SpriteLibrary(rng, grade=patient.grade)
        bundles = periodic_noise(rng, (1024, 1024), (40, 5)) + 0.35 * periodic_noise(rng, (1024, 1024), (60, 14))
        fibrils = periodic_noise(rng, (1024, 1024), (16, 1.4))
        self.bundles, self.fibrils = ((40 * t).clip(-127, 127).astype(np.int8) for t in (bundles, fibrils))
        tile = (GRAIN_PX, GRAIN_PX)
        granules = 0.7 * periodic_noise(rng, tile, (2.2, 2.2)) + 0.5 * periodic_noise(rng, tile, (1, 1))
        grain = periodic_noise(rng, tile, (0.6, 0.6)), periodic_noise(rng, tile, (0.6, 0.6))
        self.granules, *self.grain = (np.tile(t, (3, 3)) for t in (granules, *grain))
        self.table = np.ascontiguousarray(np.array([TISSUE_STAINS[t] for t in Tissue], np.float32).T)

    def concentrations(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return haematoxylin and eosin (float32, >= 0, units of the vectors) of a window."""
        side = self.blueprint.side_px
        wide = [slice(max(s.start - 1, 0), min(s.stop + 1, side)) for s in (rows, columns)]  # the blur looks further
        if (self.blueprint.labels[wide[0], wide[1]] == Tissue.GLASS).all():
            maps = [np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32) for _ in range(2)]
        else:
            inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip((rows, columns), wide))
            maps = [_blur(stain)[inner] for stain in self._sharp(*wide)]
        for stain, tile, strength in zip(maps, self.grain, self.stain.strength):
            noise = _tiled(tile, rows, columns)
            stain *= np.float32(strength) * (1 + np.float32(0.05) * noise)
            stain += np.float32(0.004) * noise
            np.maximum(stain, 0, out=stain)
        return maps[0], maps[1]

    def _sharp(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        blueprint, labels = self.blueprint, self.blueprint.labels[rows, columns]
        box = tuple(px / FIELD_PX for px in (columns.start, rows.start, columns.stop, rows.stop))
        nuclei, bodies = self._cells(rows, columns)

        across = interpolate(blueprint.across, labels.shape, box).astype(np.int32) & 1023
        lengthwise = interpolate(blueprint.lengthwise, labels.shape, box).astype(np.int32) & 1023
        index = lengthwise * 1024 + across
        fibres = self.bundles.take(index) * np.float32(1.1 / 40)
        fibres += interpolate(blueprint.collagen, labels.shape, box) + np.float32(0.75)
        np.clip(fibres, 0.05, 1.15, out=fibres)
        fibres *= 1 + self.fibrils.take(index) * np.float32(0.17 / 40)
        granules = _tiled(self.granules, rows, columns)
        thickness = interpolate(blueprint.thickness, labels.shape, box)

        eosin, blue, fibrous, granular, solid = (column.take(labels) for column in self.table)
        granular *= granules
        solid *= thickness
        eosin += fibrous * fibres
        eosin += bodies
        eosin += granular
        np.maximum(eosin, 0, out=eosin)
        eosin *= 1 - np.float32(0.3) * np.minimum(nuclei, 1)
        eosin *= solid
        blue += np.float32(0.6) * granular
        np.maximum(blue, 0, out=blue)
        blue *= solid
        blue += nuclei * thickness
        return blue, eosin

    def _cells(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the haematoxylin of the nuclei and the eosin of the cells' bodies."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        nuclei, bodies = np.zeros((2, height + 2 * MARGIN_PX, width + 2 * MARGIN_PX), np.float32)
        near = slice(*np.searchsorted(self.blueprint.cells["y"], (rows.start - REACH_PX, rows.stop + REACH_PX)))
        cells = self.blueprint.cells[near]
        cells = cells[(cells["x"] >= columns.start - REACH_PX) & (cells["x"] < columns.stop + REACH_PX)]
        self.sprites.stamp(nuclei, bodies, cells, rows.start, columns.start)
        nuclei, bodies = (m[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] for m in (nuclei, bodies))
        return np.minimum(nuclei, MOST_NUCLEAR_STAIN), bodies

    def glass(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the light without tissue, float32 RGB in 0..255: nearly white, fading a little to the corners."""
        along = [np.arange(s.start, s.stop, dtype=np.float32) for s in (rows, columns)]
        position = [(px / self.blueprint.side_px - 0.5) ** 2 for px in along]
        shade = 1 - np.float32(0.018) * (position[0][:, None] + position[1])
        return shade[..., None] * self.stain.glass.astype(np.float32)

    def pixels(self, rows: slice, columns: slice) -> np.ndarray:
        """Draw a window as uint8 RGB."""
        concentration = self.concentrations(rows, columns)
        light = self.glass(rows, columns)
        for channel in range(3):
            h, e = self.stain.vectors[:, channel].astype(np.float32)
            light[..., channel] *= np.exp(-(h * concentration[0] + e * concentration[1]))
        return np.rint(light, out=light).astype(np.uint8)

    def picture(self) -> np.ndarray:
        """Draw the whole slide, uint8 (side_px, side_px, 3)."""
        side = self.blueprint.side_px
        picture = np.empty((side, side, 3), np.uint8)
        for y in range(0, side, self.block_px):
            for x in range(0, side, self.block_px):
                window = slice(y, min(y + self.block_px, side)), slice(x, min(x + self.block_px, side))
                picture[window] = self.pixels(*window)
        return picture


def _tiled(tile: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Cut a window out of the plane that ``tile``, stored three times along each axis, would cover."""
    period = tile.shape[0] // 3
    y, x = rows.start % period, columns.start % period
    return tile[y : y + rows.stop - rows.start, x : x + columns.stop - columns.start]


def _blur(field: np.ndarray) -> np.ndarray:
    """Blur by (1, 2, 1) / 4 along both axes: the optics, and the antialiasing of the labels."""
    for axis in (0, 1):
        padded = np.pad(field, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        ahead, behind = (padded[2:], padded[:-2]) if axis == 0 else (padded[:, 2:], padded[:, :-2])
        field = field * np.float32(0.5)
        field += np.float32(0.25) * ahead
        field += np.float32(0.25) * behind
    return field
