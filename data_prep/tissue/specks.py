"""Small pieces of a mask."""

import numpy as np
from scipy import ndimage


def drop_specks(mask: np.ndarray, min_px: float) -> np.ndarray:
    """Drop connected pieces (4 neighbours) of fewer than ``min_px`` pixels."""
    labels, count = ndimage.label(mask)
    if not count or min_px <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= min_px)[labels]
