"""The plan of a demo slide: where each tissue lies, how its fibres run, and where every cell sits; no colour yet.

Slow fields live on a grid of CELL_PX pixels; labels and cells are exact to the pixel of level 0 (0.5 um).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from data_prep.demo.anatomy import Anatomy, Tissue
from data_prep.demo.cells import NUM_ANGLES, NUM_SHAPES, Cell
from data_prep.demo.patient import MPP, UM, Patient
from data_prep.demo.shapes import along, lattice, offset, packed_cells, periodic_noise, resample, smooth_noise

CELL_PX = 8
CELL_UM = CELL_PX * MPP
CELLS_DTYPE = np.dtype([("y", "i4"), ("x", "i4"), ("kind", "i1"), ("shape", "i1"), ("angle", "i1")])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold one slide, ready to draw: fields on the grid of CELL_PX, the label of every pixel, and the cells by y."""

    side_px: int
    across: np.ndarray  # fibre coordinate in pixels, constant along a fibre
    lengthwise: np.ndarray  # the other coordinate, in pixels
    collagen: np.ndarray  # density of the fibres, mean 0, about -1..1
    thickness: np.ndarray  # of the section, relative
    labels: np.ndarray  # uint8 (side_px, side_px) of Tissue
    cells: np.ndarray  # CELLS_DTYPE, sorted by y


def tissue_field(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Draw the outline of the fragments: about the distance in pixels to the tissue's edge, positive inside."""
    n = side_px // CELL_PX
    y, x = (np.mgrid[:n, :n].astype(np.float32) + 0.5) / n
    x = x + 0.035 * smooth_noise(rng, n, 0.3 * n) + 0.009 * smooth_noise(rng, n, 0.06 * n, 3)
    y = y + 0.035 * smooth_noise(rng, n, 0.3 * n) + 0.009 * smooth_noise(rng, n, 0.06 * n, 3)
    pieces = [  # centre x, y, half axes, angle
        [(0.5, 0.5, 0.45, 0.4, 0.4)],
        [(0.28, 0.5, 0.22, 0.42, 0.1), (0.74, 0.52, 0.2, 0.4, -0.15)],
        [(0.45, 0.54, 0.41, 0.4, 0.2), (0.88, 0.14, 0.1, 0.07, 0.6)],
        [(0.5, 0.32, 0.46, 0.22, -0.1), (0.42, 0.78, 0.36, 0.14, 0.1), (0.88, 0.82, 0.07, 0.05, 0)],
    ][rng.integers(4)]
    flip_x, flip_y = rng.integers(0, 2, 2)
    x, y = (1 - x if flip_x else x), (1 - y if flip_y else y)
    field = np.full((n, n), -np.inf, np.float32)
    for cx, cy, rx, ry, angle in pieces:
        u, v = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle), (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        field = np.maximum(field, (1 - np.hypot(u / rx, v / ry) / 0.94) * np.float32(min(rx, ry) * side_px))
    rows = np.arange(n, dtype=np.float32)
    to_edge = np.minimum(rows, rows[::-1]) / n
    to_edge = np.minimum(to_edge[:, None], to_edge)
    field -= np.float32(0.2 * side_px) * np.clip(1 - to_edge / 0.07, 0, 1) ** 2  # fragments end before the slide does
    wavelength_um = 300
    crack = np.abs(smooth_noise(rng, n, wavelength_um / CELL_UM, 3)) * wavelength_um * UM / 3
    opening = (smooth_noise(rng, n, 400 / CELL_UM) - 1.25) * 22 * UM
    return np.where(opening > 0, np.minimum(field, crack - opening), field).astype(np.float32)


def above_share(field: np.ndarray, share: float, within: np.ndarray) -> np.ndarray:
    """Shift ``field`` so that it is positive on ``share`` of ``within``."""
    if not within.any() or share <= 0:
        return np.full_like(field, -1)
    return field - np.float32(np.quantile(field[within], 1 - min(share, 1)))


def sample(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Look up a field on the grid of CELL_PX at points in pixels (nearest; clipped to the slide)."""
    index = np.clip((points / CELL_PX).astype(int), 0, field.shape[0] - 1)
    return field[index[:, 1], index[:, 0]]


def populate(anatomy: Anatomy, tissue: np.ndarray, fat: np.ndarray, tumour: np.ndarray, side_px: int) -> None:
    """Place ducts, lobules, tubules and vessels where there is room for them; large ones first."""
    rng, patient = anatomy.rng, anatomy.patient
    area_mm2 = (tissue > 0).sum() * (CELL_UM / 1000) ** 2

    def scatter(draw, per_mm2: float, radius_um: tuple[float, float], allowed: np.ndarray, room: float = 1.15) -> None:
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
    outlines = packed_cells(centres, wall=0.8 * UM, rounding=rng.uniform(7, 12))
    wanted = (sample(fat, centres) > 0) & (sample(tissue, centres) > 0.2 * spacing)
    for centre, outline in zip(centres[wanted], outlines[wanted]):
        if anatomy.is_free(*centre, 0.5 * spacing, gap_um=0):
            anatomy.paint(Tissue.DENSE, offset(outline, 0.7 * UM))  # the wall
            anatomy.paint(Tissue.FAT, outline + rng.normal(0, 0.4, outline.shape))
            if rng.random() < 0.3:
                points, angles = along(offset(outline, 0.4 * UM), 100 * UM, rng)
                anatomy.place(Cell.SPINDLE, points[:1], angles[:1])


def fibre_coordinates(rng: np.random.Generator, anatomy: Anatomy, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the coordinates (pixels) across and along the fibres: bent, crimped, and pushed aside by what grew there.

    A disc of radius R that swells out of a point moves what was at distance g to sqrt(g^2 + R^2), area being kept;
    the fibres are looked up at g (rounded off near R). So they run round ducts and vessels in shells.
    """
    n = side_px // CELL_PX
    y, x = (np.mgrid[:n, :n].astype(np.float32) + 0.5) * CELL_PX
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    for cx, cy, radius in anatomy.taken:
        reach = 3.2 * radius
        rows = slice(max(int((cy - reach) / CELL_PX), 0), max(int((cy + reach) / CELL_PX) + 1, 0))
        columns = slice(max(int((cx - reach) / CELL_PX), 0), max(int((cx + reach) / CELL_PX) + 1, 0))
        px, py = x[rows, columns] - cx, y[rows, columns] - cy
        distance = np.hypot(px, py) / (0.9 * radius)
        beyond = distance**2 - 1
        origin = np.sqrt((beyond + np.sqrt(beyond**2 + 0.35)) / 2)  # a rounded max(beyond, 0)
        shrink = origin / np.maximum(distance, 0.4) - 1
        shrink *= np.exp(-((distance / 2.2) ** 2))
        dx[rows, columns] += shrink * px
        dy[rows, columns] += shrink * py
    for wavelength_um, bend_um in ((900, 150), (260, 34), (90, 8)):
        dx += bend_um * UM * smooth_noise(rng, n, wavelength_um / CELL_UM)
        dy += bend_um * UM * smooth_noise(rng, n, wavelength_um / CELL_UM)
    angle = rng.uniform(0, np.pi)
    across = (x + dx) * np.cos(angle) + (y + dy) * np.sin(angle)
    lengthwise = (y + dy) * np.cos(angle) - (x + dx) * np.sin(angle)
    crimp_um = rng.uniform(45, 70)
    phase = 2 * np.pi * lengthwise / (crimp_um * UM) + 2.5 * smooth_noise(rng, n, 150 / CELL_UM)
    amplitude = 3.2 * UM * np.clip(1 + 0.7 * smooth_noise(rng, n, 200 / CELL_UM), 0, 2)
    across = across + amplitude * np.sin(phase)
    return across.astype(np.float32), lengthwise.astype(np.float32)


def nest_field(
    rng: np.random.Generator, patient: Patient, across: np.ndarray, lengthwise: np.ndarray, tumour: np.ndarray
) -> np.ndarray:
    """Draw nests and cords that follow the fibres: about the distance in pixels to their edge, positive inside."""
    width_um = 26 + 40 * patient.grade
    texture = periodic_noise(rng, (256, 256), (1, 1))
    step = width_um * UM / 2.2
    coordinates = [lengthwise / (step * rng.uniform(1.2, 2.2)) % 256, across / step % 256]
    noise = map_coordinates(texture, coordinates, order=1, mode="grid-wrap") + 0.25 * smooth_noise(
        rng, len(across), 40 / CELL_UM
    )
    filled = 0.38 + 0.3 * patient.grade
    nests = above_share(noise, filled, tumour > 0) * width_um * UM * 0.45
    return np.minimum(nests, tumour * 200 * UM).astype(np.float32)


def label_pixels(anatomy: Anatomy, fields: dict[str, np.ndarray], side_px: int) -> np.ndarray:
    """Label every pixel: fields first, outlines over them, glass where no tissue is; edges frayed by fine noise."""
    image = Image.new("L", (side_px, side_px))
    draw = ImageDraw.Draw(image)
    for tissue, outline in anatomy.outlines:
        draw.polygon([tuple(point) for point in outline.tolist()], fill=int(tissue))
    labels = np.array(image)
    period = 512
    fray = periodic_noise(anatomy.rng, (period, period), (5, 5)) + 0.25 * periodic_noise(
        anatomy.rng, (period, period), (1.5, 1.5)
    )
    fray = np.tile(fray, (1, side_px // period + 1))[:, :side_px]
    rows = min(period, side_px)
    for y in range(0, side_px, rows):
        box = (0, y / CELL_PX, side_px / CELL_PX, (y + rows) / CELL_PX)
        at = {name: resample(field, (rows, side_px), box) for name, field in fields.items()}
        block, rough = labels[y : y + rows], fray[:rows]
        nests = at["nests"] + rough
        base = np.full(block.shape, Tissue.STROMA, np.uint8)
        base[nests > 0] = Tissue.TUMOUR
        base[(nests > -2.6 * UM) & (nests <= 0) & (at["cleft"] > 0)] = Tissue.LUMEN
        base[at["necrosis"] + 0.03 * rough > 0] = Tissue.NECROSIS
        np.copyto(block, base, where=block == 0)
        block[at["tissue"] + 2 * rough < 0] = Tissue.GLASS
    return labels


def settle_cells(anatomy: Anatomy, plan: dict[str, np.ndarray], side_px: int) -> np.ndarray:
    """Fill each compartment with its cells and return all cells (CELLS_DTYPE) sorted by y; none on glass."""
    rng, patient, labels = anatomy.rng, anatomy.patient, plan["labels"]

    def at(points: np.ndarray) -> np.ndarray:
        index = np.clip(points.astype(int), 0, side_px - 1)
        return labels[index[:, 1], index[:, 0]]

    points = lattice(rng, side_px, (9.8 + 3.6 * patient.grade) * UM, 0.2)
    margin = 3.5 * UM
    steps = ((0, 0), (margin, 0), (-margin, 0), (0, margin), (0, -margin))
    inside = [at(points + step) == Tissue.TUMOUR for step in steps]
    points = points[np.logical_and.reduce(inside)]
    lining = [placed for cell, placed, _ in anatomy.placed if cell == Cell.TUMOUR and len(placed)]
    if lining and len(points):
        points = points[cKDTree(np.concatenate(lining)).query(points, distance_upper_bound=7 * UM)[0] > 7 * UM]
    anatomy.place(Cell.TUMOUR, points)

    points = lattice(rng, side_px, 15 * UM, 0.36)
    slope_y, slope_x = np.gradient(plan["across"])
    cellular = 0.34 - 0.12 * sample(plan["collagen"], points) + 0.25 * (sample(plan["tumour"], points) > 0)
    kept = (at(points) == Tissue.STROMA) & (rng.random(len(points)) < cellular.clip(0.08, 0.8))
    points = points[kept]
    fibre = np.arctan2(sample(slope_x, points), -sample(slope_y, points))
    anatomy.place(Cell.SPINDLE, points, fibre + rng.normal(0, 0.18, len(points)))

    points = lattice(rng, side_px, 7.6 * UM, 0.24)
    tissue = at(points)
    welcome = np.isin(tissue, (Tissue.STROMA, Tissue.LOOSE)) + 0.12 * np.isin(tissue, (Tissue.DENSE, Tissue.TUMOUR))
    kept = rng.random(len(points)) < welcome * sample(plan["lymphocytes"], points)
    is_plasma = rng.random(len(points)) < 0.12
    anatomy.place(Cell.LYMPHOCYTE, points[kept & ~is_plasma])
    anatomy.place(Cell.PLASMA, points[kept & is_plasma])

    points = lattice(rng, side_px, 9 * UM, 0.4)
    anatomy.place(Cell.DEBRIS, points[(at(points) == Tissue.NECROSIS) & (rng.random(len(points)) < 0.5)])

    cells = np.empty(sum(len(points) for _, points, _ in anatomy.placed), CELLS_DTYPE)
    start = 0
    for kind, points, angles in anatomy.placed:
        part = cells[start : start + len(points)]
        part["x"], part["y"], part["kind"] = *np.round(points).T.astype(int), kind
        part["angle"] = np.round(angles / np.pi * NUM_ANGLES).astype(int) % NUM_ANGLES
        start += len(points)
    cells["shape"] = rng.integers(0, NUM_SHAPES - 1, len(cells))
    cells["shape"][(cells["kind"] == Cell.TUMOUR) & (rng.random(len(cells)) < 0.01 * patient.grade)] = NUM_SHAPES - 1
    cells = cells[((cells["x"] >= 0) & (cells["x"] < side_px) & (cells["y"] >= 0) & (cells["y"] < side_px))]
    under = labels[cells["y"], cells["x"]]
    is_hollow = np.isin(under, (Tissue.GLASS, Tissue.LUMEN, Tissue.FAT))
    is_misplaced = (under == Tissue.BLOOD) != (cells["kind"] == Cell.RED_CELL)
    return np.sort(cells[~(is_hollow | is_misplaced)], order=("y", "x"))


def lymphocyte_field(
    rng: np.random.Generator, patient: Patient, tissue: np.ndarray, tumour: np.ndarray, fat: np.ndarray, side_px: int
) -> np.ndarray:
    """Draw the chance that a site holds a lymphocyte: a few everywhere, more in the tumour, dense in aggregates."""
    n = side_px // CELL_PX
    y, x = (np.mgrid[:n, :n].astype(np.float32) + 0.5) * CELL_PX
    field = 0.012 + 0.16 * patient.lymphoid * np.clip(smooth_noise(rng, n, 150 / CELL_UM, 2), 0, 2) * (tumour > -0.4)
    area_mm2 = (tissue > 0).sum() * (CELL_UM / 1000) ** 2
    rim = (tissue > 40 * UM) & (fat < 0.1) & (np.abs(tumour) < 0.6)
    sites = np.argwhere(rim)
    count = rng.poisson(1.6 * patient.lymphoid * area_mm2) if len(sites) else 0
    for row, column in sites[rng.integers(0, max(len(sites), 1), count)]:
        radius = rng.uniform(35, 120) * UM
        distance = np.hypot(x - column * CELL_PX, y - row * CELL_PX) / radius + 0.2 * smooth_noise(rng, n, 40 / CELL_UM)
        field = np.maximum(field, np.clip(1.6 * (1.25 - distance), 0, 0.92))
    return field.astype(np.float32)


def plan_slide(patient: Patient, side_px: int) -> Plan:
    """Plan the slide of one patient, ``side_px`` (a multiple of 64) pixels square."""
    rng = patient.generator(stream=3)
    n = side_px // CELL_PX
    anatomy = Anatomy(rng, patient)
    tissue = tissue_field(rng, side_px)
    inside = tissue > 0
    tumour = above_share(smooth_noise(rng, n, 800 / CELL_UM, 4), patient.tumour, inside)
    fat = smooth_noise(rng, n, 700 / CELL_UM, 4) + 0.6 * (tissue < 150 * UM) - 3 * (tumour > -0.25)
    fat = above_share(fat, patient.fat, inside)
    populate(anatomy, tissue, fat, tumour, side_px)
    across, lengthwise = fibre_coordinates(rng, anatomy, side_px)
    nests = nest_field(rng, patient, across, lengthwise, tumour)
    necrosis = above_share(smooth_noise(rng, n, 350 / CELL_UM, 4), 0.3 * patient.necrosis, tumour > 0)
    necrosis = np.minimum(necrosis, tumour - 0.2)
    outlines, anatomy.outlines = anatomy.outlines, []
    grow_fat(anatomy, tissue, fat, side_px)
    anatomy.outlines += outlines  # what is not fat lies over it
    lymphocytes = lymphocyte_field(rng, patient, tissue, tumour, fat, side_px)
    collagen = 0.6 * smooth_noise(rng, n, 260 / CELL_UM, 3) + 0.9 * (patient.collagen - 0.5) - lymphocytes
    fields = {
        "tissue": tissue,
        "nests": nests,
        "necrosis": necrosis,
        "cleft": smooth_noise(rng, n, 90 / CELL_UM) - 0.9,
    }
    labels = label_pixels(anatomy, fields, side_px)
    plan = {
        "labels": labels,
        "across": across,
        "collagen": collagen,
        "tumour": tumour,
        "lymphocytes": lymphocytes,
    }
    return Plan(
        side_px=side_px,
        across=across,
        lengthwise=lengthwise,
        collagen=collagen,
        thickness=(1 + 0.05 * smooth_noise(rng, n, 500 / CELL_UM, 3)).clip(0.8, 1.25),
        labels=labels,
        cells=settle_cells(anatomy, plan, side_px),
    )
