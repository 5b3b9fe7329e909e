"""Ink, and what is not."""

import numpy as np
import openslide
import pytest
from scipy import ndimage

from data_prep.tissue.density import optical_density
from data_prep.tissue.pen import INKS, ink_of
from tests.helpers.real_slide import REAL_SLIDE, needs_real_slide
from tests.helpers.tiny_slides import GLASS, SMALL_TISSUE, segmenter, tissue_pixels

WHITE = np.array(GLASS, np.float32)
HAEMATOXYLIN = {
    "Ruifrok": (0.650, 0.704, 0.286),
    "Macenko": (0.5626, 0.7201, 0.4062),
    "QuPath": (0.490, 0.769, 0.410),
    "bluish": (0.75, 0.60, 0.28),
    "bluer": (0.78, 0.58, 0.24),
}
OTHERS = {
    "eosin, Ruifrok": (0.072, 0.990, 0.105),
    "eosin, Macenko": (0.2159, 0.8012, 0.5581),
    "eosin, QuPath": (0.046, 0.842, 0.537),
    "DAB": (0.268, 0.570, 0.776),
}
MARKERS = {
    "black": (30, 28, 32),
    "blue": (35, 60, 160),
    "light blue": (60, 120, 210),
    "green": (20, 120, 70),
    "red": (215, 35, 45),
    "orange": (250, 130, 30),
    "yellow": (250, 230, 40),
}
"""Colours of ink on glass."""


def seen(density):
    """Return the optical density (n, 3) of stain as a scanner's 8 bit have it, (3, 1, n)."""
    pixels = np.clip(np.round((WHITE + 1) * 10**-density - 1), 0, 255).astype(np.uint8)
    return optical_density(pixels[None], WHITE)


@pytest.mark.parametrize("haematoxylin", HAEMATOXYLIN)
@pytest.mark.parametrize("other", OTHERS)
def test_no_stain_is_ink_at_any_concentration_or_mixture(haematoxylin, other):
    first, second = (np.array(v) / np.linalg.norm(v) for v in (HAEMATOXYLIN[haematoxylin], OTHERS[other]))
    steps = np.arange(0, 2.51, 0.05)
    mixtures = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    mixtures = mixtures[mixtures.sum(1) <= 2.5]
    ink = ink_of(seen(mixtures[:, :1] * first + mixtures[:, 1:] * second))[0]
    assert not ink.any(), mixtures[ink > 0]


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_are_ink_thick_or_thin(marker):
    density = np.log10((WHITE + 1) / (np.array(MARKERS[marker]) + 1))
    ink = ink_of(seen(np.array([[0.75], [1.0], [1.25]]) * density))[0]
    name = {"light blue": "blue", "orange": "yellow"}.get(marker, marker)
    assert [INKS[number - 1] for number in ink] == [name] * 3


def marked(image, colour, *, seed=0):
    """Paint a stroke 25 pixels wide across a picture, of uneven thickness; return it and where the stroke is."""
    height, width = image.shape[:2]
    x = np.arange(width)
    middle = height / 2 + height / 4 * np.sin(x / width * 7)
    stroke = np.abs(np.arange(height)[:, None] - middle) < 12
    uneven = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 6)
    thick = np.clip(0.85 + 0.15 * uneven / uneven.std(), 0.5, 1.4) * stroke
    density = np.log10((WHITE + 1) / (np.array(colour) + 1))
    pixels = (image + 1.0) * 10 ** -(thick[..., None] * density) - 1
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8), stroke


@pytest.mark.parametrize("marker", MARKERS)
def test_a_stroke_is_left_out_over_tissue_too_and_takes_little_of_it_along(marker):
    image = tissue_pixels(320, 240)
    clean, no_pen = segmenter(**SMALL_TISSUE).segment(image, 8.0)
    assert not no_pen.any()
    painted, stroke = marked(image, MARKERS[marker])
    mask, pen = segmenter(**SMALL_TISSUE).segment(painted, 8.0)
    assert pen[stroke].mean() > 0.95
    assert pen[stroke & clean].mean() > 0.95
    apart = clean & ~ndimage.binary_dilation(stroke, iterations=14)
    assert mask[apart].mean() > 0.97
    without, _ = segmenter(**SMALL_TISSUE, pen=False).segment(painted, 8.0)
    assert without[stroke].any()


def test_purple_ink_cannot_be_told_from_haematoxylin_and_is_not_pretended_to_be():
    painted, _ = marked(tissue_pixels(320, 240), (95, 45, 140))
    assert not segmenter(**SMALL_TISSUE).segment(painted, 8.0)[1].any()


@needs_real_slide
@pytest.mark.parametrize("marker", MARKERS)
def test_strokes_on_a_real_slide(marker):
    with openslide.OpenSlide(str(REAL_SLIDE)) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, (2208, 2960)).convert("RGB"))
    image = np.round(pixels.reshape(185, 16, 138, 16, 3).mean((1, 3))).astype(np.uint8)
    clean, no_pen = segmenter("default").segment(image, 8.0)
    assert not no_pen.any()
    painted, stroke = marked(image, MARKERS[marker])
    mask, pen = segmenter("default").segment(painted, 8.0)
    assert pen[stroke].mean() > 0.95
    assert mask[clean & ~ndimage.binary_dilation(stroke, iterations=14)].mean() > 0.85
