"""A mask is made strip by strip: what it takes does not grow beyond some bytes a mask pixel, and nothing changes."""

from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from data_prep.tissue import density
from data_prep.tissue.density import chroma_of, optical_density, white_of
from data_prep.tissue.mask import BRIGHT, glass_of
from data_prep.tissue.segmenter import Segmenter
from tests.helpers.memory import peak_bytes
from tests.helpers.tiny_slides import tissue_pixels
from zoomldm.config import option_of

BYTES_A_PX = 12


@pytest.fixture
def thumbnail():
    image = tissue_pixels(300, 200, 1)
    image[40:60, 30:190] = (20, 40, 160)  # blue ink
    image[:30] = 255
    return image


def plain_white(thumbnail):
    low = thumbnail.min(2)
    bright = thumbnail[(low >= 200) & (low < 255)]
    if len(bright) < 0.01 * low.size:
        bright = thumbnail[low >= 200]
    chroma = chroma_of(bright.T)
    return np.median(bright[chroma <= np.median(chroma)], axis=0).astype(np.float32)


def test_white_and_glass_are_the_medians_of_all_pixels(thumbnail, monkeypatch):
    monkeypatch.setattr(density, "STRIP_PX", 1000)
    noise = np.random.default_rng(0).integers(190, 256, (101, 67, 3), dtype=np.uint8)
    for image in (thumbnail, noise, np.full_like(noise, 255)):
        np.testing.assert_array_equal(white_of(image), plain_white(image))
    monkeypatch.setattr("data_prep.tissue.mask.MOST_GLASS_PX", 1000)
    background = np.random.default_rng(1).random(noise.shape[:2]) < 0.7
    pixels = noise[background]
    bright = pixels[pixels.min(1) >= BRIGHT][:: len(pixels) // 1000]
    np.testing.assert_array_equal(glass_of(noise, background), np.round(np.median(bright, axis=0)))


def test_a_mask_is_the_same_in_strips(thumbnail, monkeypatch):
    segmenter = option_of("tissue", "default", min_object_um2=2000).make(Segmenter)
    whole = segmenter.segment(thumbnail, 8.0)
    monkeypatch.setattr(density, "STRIP_PX", 1000)
    assert all(part.any() for part in whole)
    for strips, plain in zip(segmenter.segment(thumbnail, 8.0), whole, strict=True):
        np.testing.assert_array_equal(strips, plain)


def test_a_blur_in_place_is_the_blur(thumbnail):
    chroma = chroma_of(optical_density(thumbnail, white_of(thumbnail)))
    blurred = ndimage.gaussian_filter(chroma, 2.5)
    ndimage.gaussian_filter(chroma, 2.5, output=chroma)
    np.testing.assert_array_equal(chroma, blurred)


def test_a_mask_takes_some_bytes_a_pixel(monkeypatch):
    monkeypatch.setattr(density, "STRIP_PX", 1 << 14)
    segmenter, tile = option_of("tissue", "default").make(Segmenter), tissue_pixels(256, 256, 0)
    images = [np.tile(tile, (n, n, 1)) for n in (2, 4)]
    small, large = (peak_bytes(partial(segmenter.segment, image, 8.0)) for image in images)
    assert large - small < BYTES_A_PX * (images[1].size - images[0].size) / 3
