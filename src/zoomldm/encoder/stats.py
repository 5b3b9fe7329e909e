"""``stats``: a fixed colour-and-texture descriptor, D = 24, that needs no weights.

A tile's optical density is unmixed into haematoxylin, eosin and a residual (Ruifrok and Johnston, 2001); the vector
holds their moments, gradient energies at three scales, fractions of nucleus, glass and dense stain, and the coarse
layout of the tile. Legend: n tiles, s stain, h w pixels.
"""

from typing import Any

import numpy as np

from zoomldm.encoder.base import Encoder, padded

STAIN_VECTORS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
FEATURE_NAMES = (
    *(f"mean_{s}" for s in "her"),
    *(f"std_{s}" for s in "her"),
    "skew_h",
    "correlation_he",
    *(f"gradient_{s}_{scale}" for s in "he" for scale in (1, 2, 4)),
    "fraction_nucleus",
    "fraction_dense_nucleus",
    "fraction_glass",
    "fraction_dense_eosin",
    "local_variance_h",
    "local_variance_e",
    "left_right_h",
    "top_bottom_h",
    "left_right_e",
    "top_bottom_e",
)
CHUNK_PX = 1 << 17  # pixels worked on at once: a stain's plane stays in the processor's cache
EPS = 1e-6
CLIP = 12.0


class StatsEncoder(Encoder):
    """Encode tiles of any side that 16 divides to 24 numbers, standardised once ``fit`` has been called.

    Args:
        statistics: {"mean": [...], "std": [...]} as the manifest keeps them; None for raw descriptors.
    """

    name = "stats"
    dim = len(FEATURE_NAMES)
    batch_size = None
    is_standardised = True

    def __init__(self, statistics: dict[str, Any] | None = None) -> None:
        unit = STAIN_VECTORS / np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
        unmix = np.concatenate([np.linalg.inv(unit).T, np.ones((1, 3))])  # (h e residual and the sum, rgb)
        # The density of a value v is log10(256) - log(v + 1) / log(10): of a stain, clear + unmix @ log(v + 1).
        self._unmix = np.ascontiguousarray((unmix / -np.log(10)).astype(np.float32))
        self._clear = (unmix.sum(1) * np.log10(256)).astype(np.float32)
        self.mean = np.zeros(self.dim, np.float32)
        self.std = np.ones(self.dim, np.float32)
        self.fitted = False
        if statistics:
            self.fit(statistics["mean"], statistics["std"])

    def fit(self, mean: np.ndarray, std: np.ndarray) -> "StatsEncoder":
        """Standardise from now on with these statistics of the training tiles, each (dim,)."""
        self.mean, self.std = (np.asarray(x, np.float32).reshape(self.dim) for x in (mean, std))
        self.fitted = True
        return self

    def describe(self) -> dict[str, Any]:
        statistics = {"mean": self.mean.tolist(), "std": self.std.tolist(), "features": list(FEATURE_NAMES)}
        return super().describe() | {"statistics": statistics if self.fitted else None}

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        n, height, width = tiles.shape[:3]
        if height % 16 or width % 16:
            raise ValueError(f"tiles of {height}x{width} px: expected sides that 16 divides")
        rows = np.empty((n, self.dim), np.float32)
        step = max(1, CHUNK_PX // (height * width))
        for start in range(0, n, step):
            chunk = tiles[start : start + step]
            described = self._describe(padded(chunk, step))  # one shape, so that last bits hang on no batch mates
            rows[start : start + step] = described[: len(chunk)]
        return standardise(rows, self.mean, self.std) if self.fitted else rows

    def _describe(self, tiles: np.ndarray) -> np.ndarray:
        n, height, width = tiles.shape[:3]
        light = tiles.reshape(-1, 3).T.astype(np.float32, order="C")
        light += 1
        np.log(light, out=light)
        planes = (self._unmix @ light).reshape(4, n, height * width)  # each less its constant `clear`
        clear = self._clear
        fractions = [
            _fraction_above(planes[0], 0.25 - clear[0]),
            _fraction_above(planes[0], 0.5 - clear[0]),
            1 - _fraction_above(planes[3], 0.2 - clear[3]),
            _fraction_above(planes[1], 0.4 - clear[1]),
        ]
        centred = planes[:3]
        mean = centred.mean(-1)
        centred -= mean[..., None]
        variance = np.einsum("snp,snp->sn", centred, centred) / (height * width)
        std = np.sqrt(variance + EPS)
        h, e = centred[0], centred[1]
        cube = np.einsum("np,np->n", h * h, h) / (height * width)
        covariance = np.einsum("np,np->n", h, e) / (height * width)
        columns = [*(mean + clear[:3, None]), *std, np.cbrt(cube), covariance / (std[0] * std[1])]
        layout, local = [], []
        for stain, whole in ((h, variance[0]), (e, variance[1])):
            plane = stain.reshape(n, height, width)
            for _ in range(3):
                columns.append(_gradient_energy(plane))
                plane = _halve(plane)
            inner = np.maximum(whole - stain_variance(plane.reshape(n, -1)), 0)
            local.append(np.sqrt(inner + EPS))
            half_w, half_h = plane.shape[2] // 2, plane.shape[1] // 2
            layout.append(plane[:, :, half_w:].mean((1, 2)) - plane[:, :, :half_w].mean((1, 2)))
            layout.append(plane[:, half_h:].mean((1, 2)) - plane[:, :half_h].mean((1, 2)))
        return np.stack([*columns, *fractions, *local, *layout], axis=1)


def standardise(rows: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return (rows - mean) / std, held within +-CLIP: a channel that hardly varies on train must not explode."""
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return np.clip((rows.astype(np.float32) - mean) / std, -CLIP, CLIP)


def stain_variance(values: np.ndarray) -> np.ndarray:
    """Return the mean square of (n, m) centred values, (n,)."""
    return np.einsum("np,np->n", values, values) / values.shape[1]


def _fraction_above(planes: np.ndarray, level: float) -> np.ndarray:
    """Return the fraction of values above ``level`` of (n, m), (n,) float32."""
    above = planes > np.float32(level)
    return np.array([np.count_nonzero(row) for row in above], np.float32) / np.float32(planes.shape[1])


def _halve(plane: np.ndarray) -> np.ndarray:
    """Average (n, h, w) over 2x2 boxes."""
    n, height, width = plane.shape
    pairs = plane.reshape(n * height // 2, 2 * width)
    rows = (pairs[:, :width] + pairs[:, width:]).reshape(-1)  # flat, for one long loop in the next line
    return ((rows[0::2] + rows[1::2]) * np.float32(0.25)).reshape(n, height // 2, width // 2)


def _gradient_energy(plane: np.ndarray) -> np.ndarray:
    """Return the root mean square of differences between neighbours of (n, h, w), (n,)."""
    n, height, width = plane.shape
    flat = plane.reshape(-1)
    dx = np.empty_like(flat)
    np.subtract(flat[1:], flat[:-1], out=dx[:-1])  # one long loop, four times the speed of a row at a time
    dx[width - 1 :: width] = 0  # from a row's end to the next row's begin
    dx = dx.reshape(n, height * width)
    flat = plane.reshape(n, height * width)
    dy = flat[:, width:] - flat[:, :-width]
    along = np.einsum("np,np->n", dx, dx) / (height * (width - 1))
    across = np.einsum("np,np->n", dy, dy) / ((height - 1) * width)
    return np.sqrt((along + across) / 2 + EPS)
