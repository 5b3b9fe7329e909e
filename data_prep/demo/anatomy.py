"""The structures of the demo's tissue: ducts, lobules, tubules and vessels, each outlines to paint and cells to place.

Lengths are pixels at level 0 unless a name ends in um.
"""

from enum import IntEnum

import numpy as np

from data_prep.demo.cells import Cell
from data_prep.demo.patient import UM, Patient
from data_prep.demo.shapes import along, blob, encloses, lattice, offset


class Tissue(IntEnum):
    """Label every pixel of a slide."""

    GLASS = 0
    STROMA = 1
    DENSE = 2  # hyaline collagen round ducts
    LOOSE = 3  # the stroma inside a lobule
    FAT = 4
    EPITHELIUM = 5
    LUMEN = 6
    SECRETION = 7
    TUMOUR = 8
    NECROSIS = 9
    MUSCLE = 10
    BLOOD = 11


class Anatomy:
    """Collect outlines (in painting order), cells and the room they take while its blueprint is drawn."""

    def __init__(self, rng: np.random.Generator, patient: Patient):
        self.rng = rng
        self.patient = patient
        self.outlines: list[tuple[Tissue, np.ndarray]] = []
        self.placed: list[tuple[Cell, np.ndarray, np.ndarray]] = []
        self.taken = np.zeros((0, 3))  # x, y, radius

    def paint(self, tissue: Tissue, outline: np.ndarray) -> None:
        self.outlines.append((tissue, outline))

    def place(self, cell: Cell, points: np.ndarray, angles: np.ndarray | None = None) -> None:
        angles = self.rng.uniform(0, np.pi, len(points)) if angles is None else angles
        self.placed.append((cell, points, angles))

    def line(
        self, cell: Cell, outline: np.ndarray, spacing_um: float, *, turned: bool = False, share: float = 1
    ) -> None:
        """Place cells along an outline, lying along it or, ``turned``, standing on it."""
        points, angles = along(outline, spacing_um * UM, self.rng)
        chosen = self.rng.random(len(points)) < share
        angles = angles + self.rng.normal(0, 0.2, len(points)) + (np.pi / 2 if turned else 0)
        self.place(cell, points[chosen], angles[chosen])

    def is_free(self, x: float, y: float, radius: float, gap_um: float = 12) -> bool:
        distance = np.hypot(self.taken[:, 0] - x, self.taken[:, 1] - y)
        return bool((distance > self.taken[:, 2] + radius + gap_um * UM).all())

    def take(self, x: float, y: float, radius: float) -> None:
        self.taken = np.concatenate([self.taken, [[x, y, radius]]])

    # --- structures; ``at`` is a centre in pixels -----------------------------------------------------------------

    def cuff(self, wall: np.ndarray, width: float) -> None:
        """Lay dense collagen round a duct, with a few fibroblasts along it."""
        ragged = offset(wall, width + self.rng.normal(0, 0.6 * UM, len(wall)))
        self.paint(Tissue.DENSE, ragged)
        for depth in np.arange(5 * UM, width, 8 * UM):
            self.line(Cell.SPINDLE, offset(wall, depth), 30, share=0.55)

    def duct(self, at: np.ndarray, radius: float) -> None:
        """Draw a benign duct: a cuff of dense collagen, two layers of cells, a lumen with a ragged inner edge."""
        rng = self.rng
        aspect = rng.uniform(1, 2.4)
        wall = at + blob(rng, radius, aspect=aspect, angle=rng.uniform(0, np.pi), roughness=0.3, num_points=120)
        self.cuff(wall, rng.uniform(8, 30) * UM)
        self.paint(Tissue.EPITHELIUM, wall)
        height = rng.uniform(10, 15) * UM
        apex = offset(wall, -height + rng.normal(0, 1.3 * UM, len(wall)))
        self.paint(Tissue.LUMEN, apex)
        if rng.random() < 0.35:
            self.paint(Tissue.SECRETION, offset(apex, -rng.uniform(2, 8) * UM))
        self.line(Cell.FLAT, offset(wall, -1 * UM), 11, share=0.75)
        self.line(Cell.EPITHELIUM, offset(wall, -5.5 * UM), 6.2, turned=True)
        if height > 12 * UM:
            self.line(Cell.EPITHELIUM, offset(wall, -9.5 * UM), 7.5, turned=True, share=0.6)

    def duct_in_situ(self, at: np.ndarray, radius: float) -> None:
        """Draw a duct filled with carcinoma in situ: cribriform holes, or necrosis in its middle."""
        rng = self.rng
        shape = blob(rng, radius, aspect=rng.uniform(1, 1.6), angle=rng.uniform(0, np.pi), roughness=0.25)
        wall = at + shape
        self.cuff(wall, rng.uniform(10, 35) * UM)
        self.paint(Tissue.TUMOUR, wall)
        self.line(Cell.FLAT, offset(wall, 1 * UM), 12, share=0.7)
        if rng.random() < 0.25 + 0.6 * self.patient.grade and radius > 70 * UM:
            self.paint(Tissue.NECROSIS, at + shape * rng.uniform(0.3, 0.5) * rng.uniform(0.9, 1.1, (len(shape), 1)))
            return
        for hole in at + rng.uniform(-0.68, 0.68, (int(radius / (11 * UM)), 2)) * radius * 0.9:
            inner = np.hypot(*(hole - at)) + 16 * UM
            if inner < 0.8 * radius:
                rim = hole + blob(rng, rng.uniform(6, 16) * UM, aspect=rng.uniform(1, 1.5), num_points=32)
                self.paint(Tissue.LUMEN, rim)
                self.line(Cell.TUMOUR, offset(rim, 5 * UM), 9, turned=True)

    def lobule(self, at: np.ndarray, radius: float) -> None:
        """Draw a terminal lobule: acini in their own loose stroma."""
        rng = self.rng
        rim = at + blob(rng, 0.9 * radius, aspect=rng.uniform(1, 1.7), angle=rng.uniform(0, np.pi), roughness=0.45)
        self.paint(Tissue.LOOSE, offset(rim, rng.normal(0, 1.5 * UM, len(rim))))
        spacing = rng.uniform(38, 54) * UM
        grid = at + lattice(rng, 3.4 * radius, spacing, 0.17) - 1.7 * radius
        room = offset(rim, -0.36 * spacing)
        for centre in grid[encloses(room, grid) & (rng.random(len(grid)) < 0.93)]:
            self.acinus(centre, rng.uniform(0.28, 0.44) * spacing)
        inside = at + lattice(rng, 3.4 * radius, 11 * UM, 0.35) - 1.7 * radius
        inside = inside[encloses(rim, inside)]
        kinds = rng.choice([Cell.FLAT, Cell.LYMPHOCYTE, Cell.PLASMA, -1], len(inside), p=[0.25, 0.14, 0.06, 0.55])
        for cell in (Cell.FLAT, Cell.LYMPHOCYTE, Cell.PLASMA):
            self.place(cell, inside[kinds == cell])

    def acinus(self, at: np.ndarray, radius: float) -> None:
        rng = self.rng
        wall = at + blob(
            rng, radius, aspect=rng.uniform(1, 1.5), angle=rng.uniform(0, np.pi), roughness=0.2, num_points=36
        )
        self.paint(Tissue.EPITHELIUM, wall)
        depth = min(rng.uniform(9, 11) * UM, 0.72 * radius)
        apex = at + (wall - at) * (1 - depth / radius)
        self.paint(Tissue.SECRETION if rng.random() < 0.2 else Tissue.LUMEN, apex)
        self.line(Cell.FLAT, wall, 12, share=0.6)
        self.line(Cell.EPITHELIUM, offset(wall, -4.5 * UM), 6.0, turned=True)

    def tubule(self, at: np.ndarray, radius: float) -> None:
        """Draw a neoplastic gland: one layer of tumour cells, an angular outline, no cuff."""
        rng = self.rng
        wall = at + blob(
            rng, radius, aspect=rng.uniform(1, 2.2), angle=rng.uniform(0, np.pi), roughness=0.35, num_points=40
        )
        self.paint(Tissue.TUMOUR, wall)
        self.paint(Tissue.LUMEN, offset(wall, -min(13 * UM, 0.62 * radius)))
        self.line(Cell.TUMOUR, offset(wall, -6 * UM), 8.5, turned=True)

    def vessel(self, at: np.ndarray, radius: float) -> None:
        """Draw an artery (muscle in rings), a vein (thin wall) or, below 9 um, a capillary; red cells inside."""
        rng = self.rng
        is_capillary, is_artery = radius < 9 * UM, rng.random() < 0.5
        aspect = rng.uniform(1, 1.5) if is_artery else rng.uniform(1.1, 2.6)
        inner = at + blob(rng, radius, aspect=aspect, angle=rng.uniform(0, np.pi), roughness=0.25)
        if not is_capillary:
            thick = (rng.uniform(0.5, 0.9) if is_artery else 0.16) * radius
            self.paint(Tissue.MUSCLE, offset(inner, thick))
            for depth in np.arange(4 * UM, thick, 6.5 * UM):
                self.line(Cell.SPINDLE, offset(inner, depth), 19, share=0.7)
        self.paint(Tissue.BLOOD, inner)
        self.line(Cell.FLAT, offset(inner, 1 * UM), 12, share=0.7)
        fullness = rng.choice([0.1, 0.5, 0.95]) if not is_capillary else 0.8
        dots = lattice(rng, 3.4 * radius, 7.3 * UM, 0.13) - 1.7 * radius
        pool = rng.normal(0, 0.3, 2) * radius
        dots = dots[np.hypot(*(dots - pool).T) < (0.4 + fullness) * radius]
        self.place(Cell.RED_CELL, at + dots[rng.random(len(dots)) < fullness])
