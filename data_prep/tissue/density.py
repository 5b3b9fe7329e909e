"""Optical density of a thumbnail: how much light each channel lost, and to what colour. Planes are (3, h, w)."""

import numpy as np


def optical_density(pixels: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Return -log10 of the transmitted light as planes, (h, w, 3) uint8 -> (3, h, w) float32.

    Zero where a pixel is brighter than ``white``.
    """
    values = np.log10(np.arange(256, dtype=np.float32) + 1)
    tables = np.maximum(np.log10(white.astype(np.float32) + 1)[:, None] - values, 0).astype(np.float32)
    return np.stack([tables[channel][pixels[..., channel]] for channel in range(3)])


def chroma_of(planes: np.ndarray) -> np.ndarray:
    """Return largest less smallest of three planes, (3, h, w) -> (h, w)."""
    first, second, third = planes
    return np.maximum(np.maximum(first, second), third) - np.minimum(np.minimum(first, second), third)


def white_of(thumbnail: np.ndarray) -> np.ndarray:
    """Return the colour of clear glass, (3,) float32: the median of the bright pixels that have the least chroma.

    Pure 255 is left out where other bright pixels exist: scanners fill what they did not scan with it.
    """
    low = np.minimum(np.minimum(thumbnail[..., 0], thumbnail[..., 1]), thumbnail[..., 2])
    bright = thumbnail[(low >= 200) & (low < 255)]
    if len(bright) < 0.01 * low.size:
        bright = thumbnail[low >= 200]
    if len(bright) < 16:
        return np.array([255, 255, 255], np.float32)
    chroma = chroma_of(bright.T)
    return np.median(bright[chroma <= np.median(chroma)], axis=0).astype(np.float32)
