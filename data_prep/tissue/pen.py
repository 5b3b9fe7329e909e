"""Pen marks on the glass: begun where a colour is one that stains cannot make, followed where ink lies over tissue."""

import numpy as np
from scipy import ndimage

from data_prep.tissue.density import chroma_of, optical_density, strips_of
from data_prep.tissue.specks import drop_specks

INKS = ("blue", "green", "black", "red", "yellow")
LEAST_INK = 0.7  # of the density of a stroke's sure parts: what its other parts have at least, tissue or not
STRONGEST = 0.9  # of the largest channel: what the one that the ink absorbs most has at least over tissue


def ink_of(density: np.ndarray) -> np.ndarray:
    """Return which of ``INKS`` an optical density, (3, h, w), is for sure, counted from 1: (h, w) uint8; 0 is none.

    Haematoxylin, even a bluish one, absorbs red little more than green, and blue a third as much; eosin and DAB absorb
    blue less than green, or red as well. Blue ink absorbs red most and blue hardly, green ink red most and green least,
    black ink all alike and much; red ink absorbs green and blue and no red, orange and yellow ink blue alone.
    """
    red, green, blue = density
    is_cold, is_warm = red > 0.3, red < 0.1 * np.maximum(green, blue)
    rules = [
        is_cold & (blue < green) & ((red > 1.45 * green) | ((red > 1.15 * green) & (blue < 0.27 * red))),
        is_cold & (blue >= green) & (red > 1.45 * green),
        (np.minimum(np.minimum(red, green), blue) > 0.6) & (chroma_of(density) < 0.03 * (red + green + blue)),
        is_warm & (green > 0.45) & (blue > 0.75 * green) & (blue <= 1.5 * green),
        is_warm & (blue > 0.35) & (blue > 1.5 * green),
    ]
    ink = np.zeros(red.shape, np.uint8)
    for number, rule in enumerate(rules, 1):
        ink[rule] = number
    return ink


def pen_mask(ink: np.ndarray, thumbnail: np.ndarray, white: np.ndarray, *, min_px: float, margin_px: int) -> np.ndarray:
    """Return the strokes of at least ``min_px`` sure pixels, and a margin: (h, w) bool.

    A stroke goes on from its sure parts for as long as there may be ink over tissue (``_may_hold``).

    Args:
        ink: what is surely ink, (h, w) uint8 (``ink_of``).
        thumbnail, white: (h, w, 3) uint8, and its colour without ink or tissue.
    """
    pen = np.zeros(ink.shape, bool)
    for number in range(1, len(INKS) + 1):
        if not (ink == number).any():
            continue
        stroke = drop_specks(ndimage.binary_opening(ink == number), min_px)
        if stroke.any():
            sure = optical_density(np.median(thumbnail[stroke], axis=0).astype(np.uint8)[None, None], white)
            over = [_may_hold(sure, optical_density(thumbnail[rows], white)) for rows in strips_of(thumbnail)]
            pen |= ndimage.binary_propagation(stroke, mask=stroke | np.concatenate(over))
    return ndimage.binary_dilation(pen, iterations=margin_px) if pen.any() else pen


def _may_hold(ink: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Say where a density (3, h, w) may be that of an ink, (3, 1, 1), over tissue, whose density it is added to."""
    strongest = density[int(ink.argmax())]
    return (density >= LEAST_INK * ink).all(0) & (strongest >= STRONGEST * density.max(0))
