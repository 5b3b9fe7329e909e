"""The eight flips and quarter turns of a square, for patches, their latents and their grids alike.

A microscope slide has no up and no left, so a turned patch with its turned grid is another sample.
"""

from __future__ import annotations

import numpy as np

NUM_VARIANTS = 8


def transformed(array: np.ndarray, variant: int, *, axes: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """Return a view of `array` under variant 0 (as it is) to 7: v % 4 quarter turns, after a flip where v is 4 or more.

    axes: those of rows and columns.
    """
    if not 0 <= variant < NUM_VARIANTS:
        raise ValueError(f"variant {variant}: expected 0 to {NUM_VARIANTS - 1}")
    flipped = np.flip(array, axes[1]) if variant >= 4 else array
    return np.rot90(flipped, variant % 4, axes)
