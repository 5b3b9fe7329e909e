"""Ink, and what is not."""

import numpy as np
import pytest

from data_prep.tissue.density import optical_density
from data_prep.tissue.pen import pen_of
from tests.helpers.tiny_slides import GLASS, SMALL_TISSUE, segmenter, tissue_pixels


@pytest.mark.parametrize(
    ("ink", "is_pen"),
    [
        ((40, 60, 160), True),
        ((30, 110, 60), True),
        ((25, 25, 28), True),
        ((225, 30, 35), True),
        ((110, 60, 150), False),
        ((230, 120, 175), False),
        ((70, 40, 110), False),
        ((200, 70, 110), False),
    ],
    ids=["blue", "green", "black", "red", "haematoxylin", "eosin", "dense nuclei", "dense eosin"],
)
def test_inks_are_pen_and_stains_are_not(ink, is_pen):
    density = optical_density(np.full((4, 4, 3), ink, np.uint8), np.array(GLASS, np.float32))
    assert pen_of(density).all() == is_pen
    assert pen_of(density).any() == is_pen


def test_a_pen_stroke_is_left_out_with_its_margin():
    image = tissue_pixels(160, 120)
    image[20:30, 5:155] = (40, 60, 160)
    mask, pen = segmenter(**SMALL_TISSUE).segment(image, 8.0)
    assert pen[25, 80]
    assert not mask[20:30].any()
    without, _ = segmenter(**SMALL_TISSUE, pen=False).segment(image, 8.0)
    assert without[25].any()
