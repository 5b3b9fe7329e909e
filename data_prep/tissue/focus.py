"""How sharp a tile is: the wave number at which its brightness varies, which strong or weak stain does not change.

Legend: n tiles, p their side, y x pixels of them.
"""

import numpy as np

SAMPLED_ROWS = 8  # of a tile, about: as many as tell it, and no more, since every tile of a slide is measured
NOISE_LEVELS = 1.0  # standard deviation, in grey levels, of what a camera and JPEG add to every pixel
LAPLACIAN_OF_NOISE, GRADIENT_OF_NOISE = 20, 1  # mean squares of both, for noise of one level
SOFT = 1.25
"""Focus (1/um) below which a tile at 0.5 um a pixel is hardly in focus: docs/data.md has how often that is wrong."""


def focus_of(tiles: np.ndarray, mpp: float) -> np.ndarray:
    """Return each tile's focus in 1/um, (n, p, p, 3) uint8 -> (n,) float32; 0 where nothing rises above the noise.

    That is the root of the mean squared Laplacian over that of the mean squared gradient of the green channel: some
    2.0 to 3.3 in H&E that is sharp at 0.5 um a pixel, under 1.35 after a blur of sigma 0.75 um.

    Args:
        mpp: micrometres a pixel; slides of one base mpp can be compared.
    """
    side, green = tiles.shape[1], tiles[..., 1]
    step = max(1, side // SAMPLED_ROWS)
    above, here, below = (green[:, top : side - 2 + top : step].astype(np.int16) for top in (0, 1, 2))
    left, centre, right = here[..., :-2], here[..., 1:-1], here[..., 2:]
    above, below = above[..., 1:-1], below[..., 1:-1]
    laplacian = _mean_square(above + below + left + right - 4 * centre)
    gradient = (_mean_square(right - left) + _mean_square(below - above)) / 4
    noise = NOISE_LEVELS**2
    above_noise = np.maximum(laplacian - LAPLACIAN_OF_NOISE * noise, 0)
    return (np.sqrt(above_noise / (gradient + GRADIENT_OF_NOISE * noise)) / mpp).astype(np.float32)


def _mean_square(values: np.ndarray) -> np.ndarray:
    """Return the mean of the squares, (n, y, x) int16 -> (n,) float32."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    return np.einsum("ni,ni->n", flat, flat) / flat.shape[1]


class FocusMap:
    """The focus of a slide's tiles as they are read.

    Attributes:
        values: (tiles_y, tiles_x) float32, 1/um; NaN where no tile was measured.
    """

    def __init__(self, shape: tuple[int, int], mpp: float) -> None:
        self.mpp, self.values = mpp, np.full(shape, np.nan, np.float32)

    def measure(self, corners: np.ndarray, tiles: np.ndarray) -> None:
        """Measure tiles (n, p, p, 3) uint8 at (n, 2) tiles y, x."""
        self.values[corners[:, 0], corners[:, 1]] = focus_of(tiles, self.mpp)

    @property
    def median(self) -> float | None:
        """The median of the tiles that were measured, None without any."""
        measured = self.values[np.isfinite(self.values)]
        return round(float(np.median(measured)), 3) if len(measured) else None

    @property
    def soft(self) -> float | None:
        """The part of the tiles that were measured below ``SOFT``, None without any."""
        measured = self.values[np.isfinite(self.values)]
        return round(float((measured < SOFT).mean()), 4) if len(measured) else None

    def sharp_part(self, fraction: np.ndarray, y: int, x: int, side: int, *, least: float) -> float:
        """Return which part of a window of tiles is tissue that is not blurred; beyond the slide's edge nothing is.

        Args:
            fraction: (tiles_y, tiles_x) tissue.
            least: focus of a tile that is not blurred; one that was not measured is not.
        """
        window = np.s_[y : y + side, x : x + side]
        is_blurred = self.values[window] < least
        return float(fraction[window].astype(np.float64)[~is_blurred].sum()) / side**2
