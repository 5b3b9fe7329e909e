"""The slide's own white."""

import numpy as np

from data_prep.tissue.density import white_of
from tests.helpers.tiny_slides import GLASS, tissue_pixels


def test_white_is_the_glass_and_not_the_scanners_filling():
    image = tissue_pixels(160, 120)
    image[:, :60] = 255
    assert np.abs(white_of(image) - np.array(GLASS)).max() <= 2
