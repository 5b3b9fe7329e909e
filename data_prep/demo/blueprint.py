"""The blueprint of a demo slide: where each tissue lies, how its fibres run, and where every cell sits; no colour yet.

Slow fields live on a grid of FIELD_PX pixels; labels and cells are exact to the pixel of level 0 (0.5 um).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from data_prep.demo.anatomy import Anatomy, Tissue
from data_prep.demo.cells import NUM_ANGLES, NUM_SHAPES, Cell
from data_prep.demo.fields import (
    FIELD_PX,
    FIELD_UM,
    above_share,
    fibre_coordinates,
    lymphocyte_field,
    nest_field,
    sample,
    tissue_field,
)
from data_prep.demo.growth import Edges, grow_fat, label_pixels, populate
from data_prep.demo.patient import UM, Patient
from data_prep.demo.shapes import lattice, smooth_noise

CELLS_DTYPE = np.dtype([("y", "i4"), ("x", "i4"), ("kind", "i1"), ("shape", "i1"), ("angle", "i1")])


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Hold one slide, ready to draw: fields on the grid of FIELD_PX, the label of every pixel, and the cells by y."""

    side_px: int
    across: np.ndarray  # fibre coordinate in pixels, constant along a fibre
    lengthwise: np.ndarray  # the other coordinate, in pixels
    collagen: np.ndarray  # density of the fibres, mean 0, about -1..1
    thickness: np.ndarray  # of the section, relative
    labels: np.ndarray  # uint8 (side_px, side_px) of Tissue
    cells: np.ndarray  # CELLS_DTYPE, sorted by y


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What cells settle on: the label of every pixel, and fields that say how densely."""

    labels: np.ndarray
    across: np.ndarray
    collagen: np.ndarray
    tumour: np.ndarray
    lymphocytes: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Look up the labels of points in pixels (clipped to the slide)."""
        index = np.clip(points.astype(int), 0, len(self.labels) - 1)
        return self.labels[index[:, 1], index[:, 0]]


def draw_blueprint(patient: Patient, side_px: int) -> Blueprint:
    """Draw the blueprint of one patient's slide, ``side_px`` (a multiple of 64) pixels square."""
    rng = patient.generator(stream=3)
    n = side_px // FIELD_PX
    anatomy = Anatomy(rng, patient)
    tissue = tissue_field(rng, side_px)
    inside = tissue > 0
    tumour = above_share(smooth_noise(rng, n, 800 / FIELD_UM, 4), patient.tumour, inside)
    fat = smooth_noise(rng, n, 700 / FIELD_UM, 4) + 0.6 * (tissue < 150 * UM) - 3 * (tumour > -0.25)
    fat = above_share(fat, patient.fat, inside)
    populate(anatomy, tissue, fat, tumour, side_px)
    across, lengthwise = fibre_coordinates(rng, anatomy, side_px)
    nests = nest_field(rng, patient, across, lengthwise, tumour)
    necrosis = above_share(smooth_noise(rng, n, 350 / FIELD_UM, 4), 0.3 * patient.necrosis, tumour > 0)
    outlines, anatomy.outlines = anatomy.outlines, []
    grow_fat(anatomy, tissue, fat, side_px)
    anatomy.outlines += outlines  # what is not fat lies over it
    lymphocytes = lymphocyte_field(rng, patient, tissue, tumour, fat, side_px)
    collagen = 0.6 * smooth_noise(rng, n, 260 / FIELD_UM, 3) + 0.9 * (patient.collagen - 0.5) - lymphocytes
    cleft = smooth_noise(rng, n, 90 / FIELD_UM) - 0.9
    edges = Edges(tissue=tissue, nests=nests, necrosis=np.minimum(necrosis, tumour - 0.2), cleft=cleft)
    labels = label_pixels(anatomy, edges, side_px)
    thickness = (1 + 0.05 * smooth_noise(rng, n, 500 / FIELD_UM, 3)).clip(0.8, 1.25)
    ground = Ground(labels=labels, across=across, collagen=collagen, tumour=tumour, lymphocytes=lymphocytes)
    return Blueprint(
        side_px=side_px,
        across=across,
        lengthwise=lengthwise,
        collagen=collagen,
        thickness=thickness,
        labels=labels,
        cells=settle_cells(anatomy, ground, side_px),
    )


def settle_cells(anatomy: Anatomy, ground: Ground, side_px: int) -> np.ndarray:
    """Fill each compartment with its cells and return all cells (CELLS_DTYPE) sorted by y; none on glass."""
    settle_tumour(anatomy, ground, side_px)
    settle_stroma(anatomy, ground, side_px)
    settle_immune_cells(anatomy, ground, side_px)
    points = lattice(anatomy.rng, side_px, 9 * UM, 0.4)
    anatomy.place(Cell.DEBRIS, points[(ground.at(points) == Tissue.NECROSIS) & (anatomy.rng.random(len(points)) < 0.5)])
    return records_of(anatomy, ground.labels)


def settle_tumour(anatomy: Anatomy, ground: Ground, side_px: int) -> None:
    """Fill the tumour's nests, away from their edges and from the cells that line its glands."""
    points = lattice(anatomy.rng, side_px, (9.8 + 3.6 * anatomy.patient.grade) * UM, 0.2)
    margin = 3.5 * UM
    steps = ((0, 0), (margin, 0), (-margin, 0), (0, margin), (0, -margin))
    inside = [ground.at(points + step) == Tissue.TUMOUR for step in steps]
    points = points[np.logical_and.reduce(inside)]
    lining = [placed for cell, placed, _ in anatomy.placed if cell == Cell.TUMOUR and len(placed)]
    if lining and len(points):
        points = points[cKDTree(np.concatenate(lining)).query(points, distance_upper_bound=7 * UM)[0] > 7 * UM]
    anatomy.place(Cell.TUMOUR, points)


def settle_stroma(anatomy: Anatomy, ground: Ground, side_px: int) -> None:
    """Lay fibroblasts along the fibres: fewer where collagen is dense, more round the tumour."""
    rng = anatomy.rng
    points = lattice(rng, side_px, 15 * UM, 0.36)
    slope_y, slope_x = np.gradient(ground.across)
    cellular = 0.34 - 0.12 * sample(ground.collagen, points) + 0.25 * (sample(ground.tumour, points) > 0)
    kept = (ground.at(points) == Tissue.STROMA) & (rng.random(len(points)) < cellular.clip(0.08, 0.8))
    points = points[kept]
    fibre = np.arctan2(sample(slope_x, points), -sample(slope_y, points))
    anatomy.place(Cell.SPINDLE, points, fibre + rng.normal(0, 0.18, len(points)))


def settle_immune_cells(anatomy: Anatomy, ground: Ground, side_px: int) -> None:
    """Scatter lymphocytes, and plasma cells among them, mostly in loose stroma."""
    rng = anatomy.rng
    points = lattice(rng, side_px, 7.6 * UM, 0.24)
    tissue = ground.at(points)
    welcome = np.isin(tissue, (Tissue.STROMA, Tissue.LOOSE)) + 0.12 * np.isin(tissue, (Tissue.DENSE, Tissue.TUMOUR))
    kept = rng.random(len(points)) < welcome * sample(ground.lymphocytes, points)
    is_plasma = rng.random(len(points)) < 0.12
    anatomy.place(Cell.LYMPHOCYTE, points[kept & ~is_plasma])
    anatomy.place(Cell.PLASMA, points[kept & is_plasma])


def records_of(anatomy: Anatomy, labels: np.ndarray) -> np.ndarray:
    """Return the placed cells as CELLS_DTYPE, sorted by y, without those off the slide or where no cell can be."""
    rng, side_px = anatomy.rng, len(labels)
    cells = np.empty(sum(len(points) for _, points, _ in anatomy.placed), CELLS_DTYPE)
    start = 0
    for kind, points, angles in anatomy.placed:
        part = cells[start : start + len(points)]
        part["x"], part["y"], part["kind"] = *np.round(points).T.astype(int), kind
        part["angle"] = np.round(angles / np.pi * NUM_ANGLES).astype(int) % NUM_ANGLES
        start += len(points)
    cells["shape"] = rng.integers(0, NUM_SHAPES - 1, len(cells))
    cells["shape"][(cells["kind"] == Cell.TUMOUR) & (rng.random(len(cells)) < 0.01 * anatomy.patient.grade)] = (
        NUM_SHAPES - 1
    )
    cells = cells[((cells["x"] >= 0) & (cells["x"] < side_px) & (cells["y"] >= 0) & (cells["y"] < side_px))]
    under = labels[cells["y"], cells["x"]]
    is_hollow = np.isin(under, (Tissue.GLASS, Tissue.LUMEN, Tissue.FAT))
    is_misplaced = (under == Tissue.BLOOD) != (cells["kind"] == Cell.RED_CELL)
    return np.sort(cells[~(is_hollow | is_misplaced)], order=("y", "x"))
