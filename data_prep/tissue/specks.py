"""Small pieces of a mask."""

import numpy as np
from scipy import ndimage

from data_prep.tissue.density import strips_of


def drop_specks(mask: np.ndarray, min_px: float) -> np.ndarray:
    """Drop connected pieces (4 neighbours) of fewer than ``min_px`` pixels."""
    labels, count = ndimage.label(mask)
    if not count or min_px <= 1:
        return mask
    sizes = np.zeros(count + 1, np.int64)
    for rows in strips_of(labels):
        sizes += np.bincount(labels[rows].ravel(), minlength=count + 1)
    sizes[0] = 0
    return (sizes >= min_px)[labels]
