"""Geometry of the demo's tissue: smooth noise, blobs, outlines moved inwards, points along an outline.

Lengths are pixels at level 0 (0.5 um each) unless a name says otherwise; outlines are (n, 2) arrays of x, y, closed.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import Delaunay

LATTICE_BLUR = 0.8  # in steps of the lattice; makes the noise isotropic
LATTICE_STD = 0.33  # of unit normal lattice values once blurred and interpolated


def interpolate(
    field: np.ndarray, shape: tuple[int, int], box: tuple[float, float, float, float], *, cubic: bool = False
) -> np.ndarray:
    """Interpolate ``box`` (x0, y0, x1, y1 in pixels of the field) of a float32 field to ``shape`` (rows, columns)."""
    method = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(field).resize((shape[1], shape[0]), method, box=box))


def smooth_noise(rng: np.random.Generator, side: int, wavelength: float, octaves: int = 1) -> np.ndarray:
    """Draw a float32 (side, side) field of mean 0, deviation about 1, with features ``wavelength`` wide."""
    total, power = np.zeros((side, side), np.float32), 0.0
    for octave in range(octaves):
        spacing, weight = wavelength / 2 ** (octave + 1), 0.5**octave
        steps = side / spacing
        lattice = rng.standard_normal((int(np.ceil(steps)) + 8,) * 2, dtype=np.float32)
        lattice = gaussian_filter(lattice, LATTICE_BLUR, truncate=3)
        x0, y0 = 3 + rng.random(2)
        total += weight * interpolate(lattice, (side, side), (x0, y0, x0 + steps, y0 + steps), cubic=True)
        power += weight**2
    return total / np.float32(LATTICE_STD * power**0.5)


def periodic_noise(rng: np.random.Generator, shape: tuple[int, int], blur: tuple[float, float]) -> np.ndarray:
    """Draw Gaussian noise (float32, unit variance) that repeats without a seam, blurred by ``blur`` pixels per axis."""
    gain = [np.exp(-2 * (np.pi * np.fft.fftfreq(n) * sigma) ** 2) for n, sigma in zip(shape, blur)]
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * gain[0][:, None] * gain[1]).real
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def blob(
    rng: np.random.Generator,
    radius: float,
    *,
    aspect: float = 1.0,
    angle: float = 0.0,
    roughness: float = 0.15,
    num_points: int = 64,
) -> np.ndarray:
    """Draw a closed outline round the origin: an ellipse of the given mean radius with low harmonics added."""
    theta = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    orders = np.arange(2, 7)
    amplitude, phase = rng.standard_normal(5) * roughness / orders, rng.uniform(0, 2 * np.pi, 5)
    harmonics = amplitude[:, None] * np.cos(orders[:, None] * theta + phase[:, None])
    r = radius * np.clip(1 + harmonics.sum(0), 0.5, 1.6)
    x, y = r * np.cos(theta) * aspect**0.5, r * np.sin(theta) / aspect**0.5
    return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], 1)


def offset(outline: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    """Move an outline (counter-clockwise in x, y) outwards by ``distance``, a number or one for each point."""
    tangent = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1) / np.maximum(np.hypot(*tangent.T), 1e-6)[:, None]
    return outline + normal * np.broadcast_to(distance, len(outline))[:, None]


def along(outline: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, 2) about ``spacing`` apart on an outline and the angle of its tangent at each."""
    closed = np.concatenate([outline, outline[:1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(int(length[-1] / spacing), 3)
    position = (np.arange(count) + rng.uniform(-0.25, 0.25, count) + rng.random()) * length[-1] / count % length[-1]
    points = np.stack([np.interp(position, length, closed[:, i]) for i in (0, 1)], 1)
    ahead = np.stack([np.interp((position + 2) % length[-1], length, closed[:, i]) for i in (0, 1)], 1)
    return points, np.arctan2(*(ahead - points).T[::-1])


def encloses(outline: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Tell for each point (n, 2) whether it lies inside an outline (even-odd rule)."""
    x, y = points.T[..., None]
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, 0).T
    slope = (x1 - x0) / np.where(y1 == y0, 1e-9, y1 - y0)
    crossings = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * slope)
    return crossings.sum(1) % 2 == 1


def lattice(rng: np.random.Generator, side: float, spacing: float, jitter: float = 0.28) -> np.ndarray:
    """Return points (n, 2) of a shaken hexagonal lattice over a square, in random order."""
    rows, columns = int(side / (spacing * 0.866)) + 2, int(side / spacing) + 2
    y, x = np.mgrid[:rows, :columns].astype(float)
    points = np.stack([(x + 0.5 * (y % 2)) * spacing, y * spacing * 0.866], -1).reshape(-1, 2)
    points += rng.normal(0, jitter * spacing, points.shape)
    return rng.permutation(points[((points >= 0) & (points < side)).all(1)])


def packed_outlines(points: np.ndarray, *, wall: float, rounding: float, num_points: int = 40) -> np.ndarray:
    """Return outlines (n, num_points, 2) as fat cells have them: Voronoi polygons, corners rounded, ``wall`` inside."""
    first, neighbours = Delaunay(points).vertex_neighbor_vertices
    degree = np.diff(first)
    slot = np.arange(len(neighbours)) - np.repeat(first[:-1], degree)
    table = np.full((len(points), degree.max()), -1)
    table[np.repeat(np.arange(len(points)), degree), slot] = neighbours
    towards = points[table] - points[:, None]
    half = np.hypot(towards[..., 0], towards[..., 1]) / 2
    theta = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    along_ray = towards[..., :1] * np.cos(theta) + towards[..., 1:] * np.sin(theta)  # no BLAS: the same bits everywhere
    closeness = along_ray / np.maximum(2 * half * np.maximum(half - wall, 1), 1e-6)[..., None]
    closeness = np.where((table >= 0)[..., None], closeness, 0).clip(0)
    # A soft minimum over the neighbours' walls.
    radius = np.maximum((closeness**rounding).sum(1), 1e-90) ** (-1 / rounding)
    limit = 1.6 * np.median(half)
    return points[:, None] + np.minimum(radius, limit)[..., None] * np.stack([np.cos(theta), np.sin(theta)], 1)
