"""Pen marks on the glass, known by colours that haematoxylin and eosin cannot make."""

import numpy as np
from scipy import ndimage

from data_prep.tissue.density import chroma_of
from data_prep.tissue.specks import drop_specks


def pen_of(density: np.ndarray) -> np.ndarray:
    """Return where the optical density, (3, h, w), is ink: (h, w) bool.

    Haematoxylin absorbs green at least as much as red; blue and green inks absorb red most, black ink all alike and
    much, red ink green and blue alike and almost no red.
    """
    red, green, blue = density
    cold = (red > 0.25) & (red > 1.25 * green)
    black = (np.minimum(np.minimum(red, green), blue) > 0.6) & (chroma_of(density) < 0.05 * (red + green + blue))
    warm = (green > 0.7) & (blue > 0.8 * green) & (red < 0.08 * green)
    return cold | black | warm


def pen_mask(ink: np.ndarray, *, min_px: float, margin_px: int) -> np.ndarray:
    """Return the strokes of at least ``min_px`` pixels in what is ink (``pen_of``), and a margin: (h, w) bool."""
    pen = drop_specks(ndimage.binary_opening(ink), min_px)
    return ndimage.binary_dilation(pen, iterations=margin_px) if pen.any() else pen
