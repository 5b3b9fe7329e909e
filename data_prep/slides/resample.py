"""Averages over areas that are not whole pixels: how a level becomes base pixels where no integer box does it."""

import numpy as np


def area_span(start: int, stop: int, ratio: float, size: int) -> tuple[int, int]:
    """Return the input span [first, last) that output pixels [start, stop) average over, clipped to ``size``."""
    first = int(np.floor(start * ratio + 1e-9))
    last = int(np.ceil(stop * ratio - 1e-9))
    return max(0, min(first, size)), max(0, min(last, size))


def area_average(pixels: np.ndarray, start: int, stop: int, ratio: float, first: int) -> np.ndarray:
    """Average along axis 0 with weights by covered length; float32.

    Output i in [start, stop) covers input [i·ratio, (i+1)·ratio); ``pixels`` holds the input from index ``first`` on.
    What lies outside of ``pixels`` does not count.
    """
    low = np.arange(start, stop) * ratio
    high = low + ratio
    base = np.floor(low + 1e-9).astype(np.int64)
    taps = int(np.ceil(ratio - 1e-9)) + 1
    total = np.zeros((stop - start, *pixels.shape[1:]), np.float32)
    weights = np.zeros(stop - start)
    for tap in range(taps):
        index = base + tap
        weight = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0, None)
        inside = (index >= first) & (index < first + len(pixels))
        weight = np.where(inside & (weight > 1e-9), weight, 0)
        if not weight.any():
            continue
        rows = pixels[np.clip(index - first, 0, len(pixels) - 1)]
        total += rows * weight.astype(np.float32).reshape(-1, *[1] * (pixels.ndim - 1))
        weights += weight
    return total / np.maximum(weights, 1e-9).astype(np.float32).reshape(-1, *[1] * (pixels.ndim - 1))


def area_resample(
    pixels: np.ndarray, x: tuple[int, int], y: tuple[int, int], ratio: tuple[float, float], first: tuple[int, int]
) -> np.ndarray:
    """Average (h, w, c) over the areas of output pixels x[0] <= i < x[1], y[0] <= j < y[1]; float32.

    Args:
        ratio: input pixels an output pixel, along x and y.
        first: index of the first input column and row in ``pixels``.
    """
    rows = area_average(pixels, *y, ratio[1], first[1])
    columns = area_average(np.ascontiguousarray(rows.swapaxes(0, 1)), *x, ratio[0], first[0])
    return columns.swapaxes(0, 1)
