"""What grows in a demo slide: ducts, lobules, vessels and fat cells, and with them the label of every pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from data_prep.demo.anatomy import Anatomy, Tissue
from data_prep.demo.cells import Cell
from data_prep.demo.fields import FIELD_PX, FIELD_UM, sample
from data_prep.demo.patient import UM
from data_prep.demo.shapes import along, interpolate, lattice, offset, packed_outlines, periodic_noise

FRAY_PX = 512  # period of the noise that frays the edges


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Fields that are positive where something is: distances to its edge in pixels, but for cleft and necrosis."""

    tissue: np.ndarray
    nests: np.ndarray
    necrosis: np.ndarray
    cleft: np.ndarray


def populate(anatomy: Anatomy, tissue: np.ndarray, fat: np.ndarray, tumour: np.ndarray, side_px: int) -> None:
    """Place ducts, lobules, tubules and vessels where there is room for them; large ones first."""
    rng, patient = anatomy.rng, anatomy.patient
    area_mm2 = (tissue > 0).sum() * (FIELD_UM / 1000) ** 2

    def scatter(
        draw: Callable[[np.ndarray, float], None],
        per_mm2: float,
        radius_um: tuple[float, float],
        allowed: np.ndarray,
        room: float = 1.15,
    ) -> None:
        wanted, centres = rng.poisson(per_mm2 * area_mm2), rng.uniform(0, side_px, (4000, 2))
        centres = centres[(sample(tissue, centres) > radius_um[0] * UM) & sample(allowed, centres)]
        for centre in centres[: 12 * wanted]:
            if not wanted:
                break
            radius = np.exp(rng.uniform(*np.log(radius_um))) * UM
            if sample(tissue, centre[None])[0] > radius and anatomy.is_free(*centre, radius * room):
                anatomy.take(*centre, radius * room)
                draw(centre, radius)
                wanted -= 1

    stroma = (fat < 0) & (tumour < 0)
    scatter(anatomy.duct_in_situ, patient.ducts_per_mm2 * patient.in_situ, (50, 190), fat < 0, 1.3)
    scatter(anatomy.lobule, patient.lobules_per_mm2, (90, 240), tumour < 0, 1.2)
    scatter(anatomy.duct, patient.ducts_per_mm2 * (1 - patient.in_situ) * 0.5, (55, 130), stroma, 1.5)
    scatter(anatomy.duct, patient.ducts_per_mm2 * (1 - patient.in_situ), (24, 60), stroma, 1.6)
    scatter(anatomy.vessel, 1.2, (14, 60), tumour < 0.3, 1.7)
    scatter(anatomy.tubule, 160 * patient.tubules * patient.tumour, (15, 34), tumour > 0, 1.2)
    scatter(anatomy.vessel, 9, (3, 8.5), tissue > 0)


def grow_fat(anatomy: Anatomy, tissue: np.ndarray, fat: np.ndarray, side_px: int) -> None:
    """Pack fat cells, each an empty outline in a thin wall with a flat nucleus here and there, into the zone of fat."""
    rng = anatomy.rng
    spacing = rng.uniform(62, 84) * UM
    centres = lattice(rng, side_px, spacing, 0.17)
    outlines = packed_outlines(centres, wall=0.8 * UM, rounding=rng.uniform(7, 12))
    wanted = (sample(fat, centres) > 0) & (sample(tissue, centres) > 0.2 * spacing)
    for centre, outline in zip(centres[wanted], outlines[wanted]):
        if anatomy.is_free(*centre, 0.5 * spacing, gap_um=0):
            anatomy.paint(Tissue.DENSE, offset(outline, 0.7 * UM))  # the wall
            anatomy.paint(Tissue.FAT, outline + rng.normal(0, 0.4, outline.shape))
            if rng.random() < 0.3:
                points, angles = along(offset(outline, 0.4 * UM), 100 * UM, rng)
                anatomy.place(Cell.SPINDLE, points[:1], angles[:1])


def label_pixels(anatomy: Anatomy, edges: Edges, side_px: int) -> np.ndarray:
    """Label every pixel: fields first, outlines over them, glass where no tissue is; edges frayed by fine noise."""
    image = Image.new("L", (side_px, side_px))
    draw = ImageDraw.Draw(image)
    for tissue, outline in anatomy.outlines:
        draw.polygon([tuple(point) for point in outline.tolist()], fill=int(tissue))
    labels = np.array(image)
    square = (FRAY_PX, FRAY_PX)
    fray = periodic_noise(anatomy.rng, square, (5, 5)) + 0.25 * periodic_noise(anatomy.rng, square, (1.5, 1.5))
    fray = np.tile(fray, (1, side_px // FRAY_PX + 1))[:, :side_px]
    rows = min(FRAY_PX, side_px)
    for y in range(0, side_px, rows):
        box = (0, y / FIELD_PX, side_px / FIELD_PX, (y + rows) / FIELD_PX)
        at = {name: interpolate(field, (rows, side_px), box) for name, field in vars(edges).items()}
        block, rough = labels[y : y + rows], fray[:rows]
        nests = at["nests"] + rough
        base = np.full(block.shape, Tissue.STROMA, np.uint8)
        base[nests > 0] = Tissue.TUMOUR
        base[(nests > -2.6 * UM) & (nests <= 0) & (at["cleft"] > 0)] = Tissue.LUMEN
        base[at["necrosis"] + 0.03 * rough > 0] = Tissue.NECROSIS
        np.copyto(block, base, where=block == 0)
        block[at["tissue"] + 2 * rough < 0] = Tissue.GLASS
    return labels
