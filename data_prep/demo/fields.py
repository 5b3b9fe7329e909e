"""The slow fields of a demo slide: where tissue, fat and tumour lie, how fibres run; on a grid of FIELD_PX pixels."""

import numpy as np
from scipy.ndimage import map_coordinates

from data_prep.demo.anatomy import Anatomy
from data_prep.demo.patient import MPP, UM, Patient
from data_prep.demo.shapes import periodic_noise, smooth_noise

FIELD_PX = 8
FIELD_UM = FIELD_PX * MPP


def tissue_field(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Draw the outline of the fragments: about the distance in pixels to the tissue's edge, positive inside."""
    n = side_px // FIELD_PX
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
    crack = np.abs(smooth_noise(rng, n, wavelength_um / FIELD_UM, 3)) * wavelength_um * UM / 3
    opening = (smooth_noise(rng, n, 400 / FIELD_UM) - 1.25) * 22 * UM
    return np.where(opening > 0, np.minimum(field, crack - opening), field).astype(np.float32)


def above_share(field: np.ndarray, share: float, within: np.ndarray) -> np.ndarray:
    """Shift ``field`` so that it is positive on ``share`` of ``within``."""
    if not within.any() or share <= 0:
        return np.full_like(field, -1)
    return field - np.float32(np.quantile(field[within], 1 - min(share, 1)))


def sample(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Look up a field on the grid of FIELD_PX at points in pixels (nearest; clipped to the slide)."""
    index = np.clip((points / FIELD_PX).astype(int), 0, field.shape[0] - 1)
    return field[index[:, 1], index[:, 0]]


def fibre_coordinates(rng: np.random.Generator, anatomy: Anatomy, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the coordinates (pixels) across and along the fibres: bent, crimped, and pushed aside by what grew there.

    A disc of radius R that swells out of a point moves what was at distance g to sqrt(g^2 + R^2), area being kept;
    the fibres are looked up at g (rounded off near R). So they run round ducts and vessels in shells.
    """
    n = side_px // FIELD_PX
    y, x = (np.mgrid[:n, :n].astype(np.float32) + 0.5) * FIELD_PX
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    for cx, cy, radius in anatomy.taken:
        reach = 3.2 * radius
        rows = slice(max(int((cy - reach) / FIELD_PX), 0), max(int((cy + reach) / FIELD_PX) + 1, 0))
        columns = slice(max(int((cx - reach) / FIELD_PX), 0), max(int((cx + reach) / FIELD_PX) + 1, 0))
        px, py = x[rows, columns] - cx, y[rows, columns] - cy
        distance = np.hypot(px, py) / (0.9 * radius)
        beyond = distance**2 - 1
        origin = np.sqrt((beyond + np.sqrt(beyond**2 + 0.35)) / 2)  # a rounded max(beyond, 0)
        shrink = origin / np.maximum(distance, 0.4) - 1
        shrink *= np.exp(-((distance / 2.2) ** 2))
        dx[rows, columns] += shrink * px
        dy[rows, columns] += shrink * py
    for wavelength_um, bend_um in ((900, 150), (260, 34), (90, 8)):
        dx += bend_um * UM * smooth_noise(rng, n, wavelength_um / FIELD_UM)
        dy += bend_um * UM * smooth_noise(rng, n, wavelength_um / FIELD_UM)
    angle = rng.uniform(0, np.pi)
    across = (x + dx) * np.cos(angle) + (y + dy) * np.sin(angle)
    lengthwise = (y + dy) * np.cos(angle) - (x + dx) * np.sin(angle)
    crimp_um = rng.uniform(45, 70)
    phase = 2 * np.pi * lengthwise / (crimp_um * UM) + 2.5 * smooth_noise(rng, n, 150 / FIELD_UM)
    amplitude = 3.2 * UM * np.clip(1 + 0.7 * smooth_noise(rng, n, 200 / FIELD_UM), 0, 2)
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
        rng, len(across), 40 / FIELD_UM
    )
    filled = 0.38 + 0.3 * patient.grade
    nests = above_share(noise, filled, tumour > 0) * width_um * UM * 0.45
    return np.minimum(nests, tumour * 200 * UM).astype(np.float32)


def lymphocyte_field(
    rng: np.random.Generator, patient: Patient, tissue: np.ndarray, tumour: np.ndarray, fat: np.ndarray, side_px: int
) -> np.ndarray:
    """Draw the chance that a site holds a lymphocyte: a few everywhere, more in the tumour, dense in aggregates."""
    n = side_px // FIELD_PX
    y, x = (np.mgrid[:n, :n].astype(np.float32) + 0.5) * FIELD_PX
    field = 0.012 + 0.16 * patient.lymphoid * np.clip(smooth_noise(rng, n, 150 / FIELD_UM, 2), 0, 2) * (tumour > -0.4)
    area_mm2 = (tissue > 0).sum() * (FIELD_UM / 1000) ** 2
    rim = (tissue > 40 * UM) & (fat < 0.1) & (np.abs(tumour) < 0.6)
    sites = np.argwhere(rim)
    count = rng.poisson(1.6 * patient.lymphoid * area_mm2) if len(sites) else 0
    for row, column in sites[rng.integers(0, max(len(sites), 1), count)]:
        radius = rng.uniform(35, 120) * UM
        distance = np.hypot(x - column * FIELD_PX, y - row * FIELD_PX) / radius + 0.2 * smooth_noise(
            rng, n, 40 / FIELD_UM
        )
        field = np.maximum(field, np.clip(1.6 * (1.25 - distance), 0, 0.92))
    return field.astype(np.float32)
