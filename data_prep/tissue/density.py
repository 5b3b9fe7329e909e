"""Optical density of a thumbnail: how much light each channel lost, and to what colour. Planes are (3, h, w)."""

from collections.abc import Iterator

import numpy as np

STRIP_PX = 1 << 20


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


def strips_of(pixels: np.ndarray) -> Iterator[slice]:
    """Yield the rows of a picture (h, w, …) in strips, so that planes of floats need not be as large as it."""
    rows = max(1, STRIP_PX // max(1, pixels.shape[1]))
    for start in range(0, len(pixels), rows):
        yield slice(start, start + rows)


def white_of(thumbnail: np.ndarray) -> np.ndarray:
    """Return the colour of clear glass, (3,) float32: the median of the bright pixels that have the least chroma.

    Pure 255 is left out where other bright pixels exist: scanners fill what they did not scan with it.
    """
    for most in (254, 255):
        counts = np.zeros(256, np.int64)
        for bright in _bright(thumbnail, most):
            counts += np.bincount(chroma_of(bright.T), minlength=256)
        if counts.sum() >= 0.01 * thumbnail[..., 0].size:
            break
    if counts.sum() < 16:
        return np.array([255, 255, 255], np.float32)
    limit, of_channel = _median(counts), np.zeros((3, 256), np.int64)
    for bright in _bright(thumbnail, most):
        clear = bright[chroma_of(bright.T) <= limit]
        of_channel += [np.bincount(clear[:, channel], minlength=256) for channel in range(3)]
    return np.array([_median(counts) for counts in of_channel], np.float32)


def _bright(thumbnail: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield the pixels whose least channel is 200 to ``most``, (n, 3), strip by strip."""
    for rows in strips_of(thumbnail):
        pixels = thumbnail[rows]
        low = np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
        yield pixels[(low >= 200) & (low <= most)]


def _median(counts: np.ndarray) -> float:
    """Return the median of whole numbers from 0 on, by how often each occurs."""
    number, up_to = counts.sum(), counts.cumsum()
    return float(np.searchsorted(up_to, [(number - 1) // 2, number // 2], side="right").mean())
