"""Folds: where tissue lies twice or thrice, it is darker than all but the darkest of the slide. A hint, not a rule."""

import numpy as np
from scipy import ndimage

from data_prep.tissue.density import optical_density, strips_of, white_of
from data_prep.tissue.specks import drop_specks

PITCH_UM, SMOOTH_UM, LEAST_UM2 = 16.0, 20.0, 5000.0
DENSE_PERCENTILE, TIMES_DENSE = 95, 1.25


def fold_share(thumbnail: np.ndarray, tissue: np.ndarray, um_per_px: float) -> float:
    """Return which part of the tissue is so dark, over 5,000 um2 or more, that it may be folded.

    That is a quarter above the slide's own 95th percentile of the optical density, mean of the channels, blurred.

    Args:
        thumbnail: (h, w, 3) uint8.
        tissue: (h, w) bool.
    """
    step = max(1, round(PITCH_UM / um_per_px))
    small, inside = thumbnail[::step, ::step], tissue[::step, ::step]
    if not inside.any():
        return 0.0
    white, sigma = white_of(thumbnail), SMOOTH_UM / (um_per_px * step)
    density = np.concatenate([optical_density(small[rows], white).mean(0) for rows in strips_of(small)])
    density[~inside] = 0
    near = ndimage.gaussian_filter(
        inside.astype(np.float32), sigma
    )  # the blur mixes glass in, which is taken out again
    density = ndimage.gaussian_filter(density, sigma) / np.maximum(near, 0.3)
    dark = inside & (density > TIMES_DENSE * np.percentile(density[inside], DENSE_PERCENTILE))
    return float(drop_specks(dark, LEAST_UM2 / (um_per_px * step) ** 2).sum() / inside.sum())
