import json

import numpy as np
import pytest

from data_prep.slide import Slide, SlideSpec
from data_prep.tissue import TissueSettings, find_tissue, optical_density, pen_of, tissue_of, white_of
from tests.tiny_slides import GLASS, tissue_pixels
from zoomldm.errors import DataError

SETTINGS = TissueSettings(cells_per_tile=4, min_object_um2=100.0, max_hole_um2=100.0, smooth_um=4.0)


def thumbnail(*, margin=0.12):
    return tissue_pixels(160, 120, margin=margin)


def test_the_mask_finds_the_ellipse():
    mask, pen = tissue_of(thumbnail(), 4.0, SETTINGS)
    y, x = np.mgrid[0:120, 0:160]
    truth = ((x / 160 - 0.5) ** 2 + (y / 120 - 0.5) ** 2) < 0.38**2
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert not pen.any()


def test_clean_glass_has_no_tissue_and_no_pen():
    glass = np.clip(np.random.default_rng(0).normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    mask, pen = tissue_of(glass, 4.0, SETTINGS)
    assert not mask.any()
    assert not pen.any()


def test_yellowish_light_is_not_tissue():
    """The white point is the slide's own."""
    tinted = (thumbnail().astype(float) * [1.0, 0.97, 0.9]).astype(np.uint8)
    mask, _ = tissue_of(tinted, 4.0, SETTINGS)
    assert not mask[:8].any()
    assert mask[60, 80]


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
    image = thumbnail()
    image[20:30, 5:155] = (40, 60, 160)
    mask, pen = tissue_of(image, 8.0, SETTINGS)
    assert pen[25, 80]
    assert not mask[20:30].any()
    without, _ = tissue_of(image, 8.0, TissueSettings(**{**SETTINGS.__dict__, "pen": False}))
    assert without[25].any()


def test_specks_are_dropped_and_holes_filled():
    image = thumbnail()
    image[4:6, 4:6] = (150, 80, 150)
    image[58:61, 79:82] = GLASS
    settings = TissueSettings(cells_per_tile=4, min_object_um2=400.0, max_hole_um2=4000.0, smooth_um=2.0)
    mask, _ = tissue_of(image, 4.0, settings)
    assert not mask[:10, :10].any()
    assert mask[59, 80]


def test_white_is_the_glass_and_not_the_scanners_filling():
    image = thumbnail()
    image[:, :60] = 255
    assert np.abs(white_of(image) - np.array(GLASS)).max() <= 2


def test_fractions_are_the_mask_over_whole_tiles_and_glass_is_its_colour(tiny_slide):
    path = tiny_slide(width=700, height=500)
    slide = Slide(SlideSpec(path=path, name="a", patient="a"), 0.5)
    found = find_tissue(slide, 16, 0.5, SETTINGS)
    assert found.fraction.shape == (32, 44)
    assert np.array_equal(found.fraction, found.mask.reshape(32, 4, 44, 4).mean((1, 3), dtype=np.float32))
    assert not found.mask[500 // 4 :].any()
    assert np.abs(found.glass.astype(int) - GLASS).max() <= 1


def test_a_geojson_restricts_the_tissue(tiny_slide, tmp_path):
    path = tiny_slide(width=700, height=500, mpp=0.25)
    slide = Slide(SlideSpec(path=path, name="slide", patient="a"), 0.5)
    ring = [[200, 100], [400, 100], [400, 300], [200, 300], [200, 100]]
    hole = [[280, 180], [320, 180], [320, 220], [280, 220], [280, 180]]
    polygon = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring, hole]}, "properties": {}}
    folder = tmp_path / "regions"
    folder.mkdir()
    (folder / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [polygon]}))
    settings = TissueSettings(**{**SETTINGS.__dict__, "regions": str(folder)})
    found = find_tissue(slide, 16, 0.5, settings)
    full = find_tissue(slide, 16, 0.5, SETTINGS)
    px0 = 8  # level-0 pixels a mask pixel
    assert found.mask.sum() < full.mask.sum()
    assert not found.mask[:, : 190 // px0].any()
    assert not found.mask[:, 416 // px0 :].any()
    assert not found.mask[200 // px0, 300 // px0]
    row = 120 // px0, slice(220 // px0, 380 // px0)
    assert np.array_equal(found.mask[row], full.mask[row])
    (folder / "slide.geojson").write_text("[1, 2]")
    with pytest.raises(DataError, match="not a GeoJSON"):
        find_tissue(slide, 16, 0.5, settings)
