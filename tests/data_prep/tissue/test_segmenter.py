import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from data_prep.settings import from_config
from data_prep.tissue.density import optical_density, white_of
from data_prep.tissue.geojson import polygons_mask, read_polygons
from data_prep.tissue.mask import find_tissue, segmenter_of
from data_prep.tissue.pen import pen_of
from tests.helpers.tiny_slides import GLASS, open_slide, tissue_pixels, tissue_settings, write_slide
from zoomldm.cli import compose_jobs
from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError

PRESETS = ("default", "faint", "fatty", "biopsy", "demo")


@cache
def segmenter(name="default", **values):
    return segmenter_of(tissue_settings(name, **values).segmenter)


SMALL = {"min_object_um2": 100.0, "max_hole_um2": 100.0, "smooth_um": 4.0}


def thumbnail(*, margin=0.12):
    return tissue_pixels(160, 120, margin=margin)


def test_the_mask_finds_the_ellipse():
    mask, pen = segmenter(**SMALL).segment(thumbnail(), 4.0)
    y, x = np.mgrid[0:120, 0:160]
    truth = ((x / 160 - 0.5) ** 2 + (y / 120 - 0.5) ** 2) < 0.38**2
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert not pen.any()


def test_clean_glass_has_no_tissue_and_no_pen():
    glass = np.clip(np.random.default_rng(0).normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    mask, pen = segmenter(**SMALL).segment(glass, 4.0)
    assert not mask.any()
    assert not pen.any()


def test_yellowish_light_is_not_tissue():
    """The white point is the slide's own."""
    tinted = (thumbnail().astype(float) * [1.0, 0.97, 0.9]).astype(np.uint8)
    mask, _ = segmenter(**SMALL).segment(tinted, 4.0)
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
    mask, pen = segmenter(**SMALL).segment(image, 8.0)
    assert pen[25, 80]
    assert not mask[20:30].any()
    without, _ = segmenter(**SMALL, pen=False).segment(image, 8.0)
    assert without[25].any()


def test_specks_are_dropped_and_holes_filled():
    image = thumbnail()
    image[4:6, 4:6] = (150, 80, 150)
    image[58:61, 79:82] = GLASS
    mask, _ = segmenter(min_object_um2=400.0, max_hole_um2=4000.0, smooth_um=2.0).segment(image, 4.0)
    assert not mask[:10, :10].any()
    assert mask[59, 80]


def test_white_is_the_glass_and_not_the_scanners_filling():
    image = thumbnail()
    image[:, :60] = 255
    assert np.abs(white_of(image) - np.array(GLASS)).max() <= 2


def test_a_tiles_fraction_is_the_part_of_it_that_is_tissue_and_glass_is_the_slides(tmp_path):
    pixels = np.full((320, 480, 3), GLASS, np.uint8)
    pixels[52:200, 100:300] = (180, 90, 150)
    found = find_tissue(
        open_slide(write_slide(tmp_path / "a.tif", pixels)), 16, 0.5, tissue_settings(**SMALL | {"smooth_um": 0.01})
    )
    assert found.fraction.shape == (20, 30)
    assert found.fraction[4, 6:19].tolist() == [0.75, *[1] * 11, 0.75]  # 100 to 300 is 4 px short of whole tiles
    assert found.fraction[2:14, 10].tolist() == [0, 0.75, *[1] * 8, 0.5, 0]
    assert found.fraction.sum() * 16**2 == 148 * 200
    assert found.glass.tolist() == list(GLASS)


def test_a_geojson_restricts_the_tissue(tiny_slide, tmp_path):
    path = tiny_slide(width=700, height=500, mpp=0.25)
    slide = open_slide(path)
    ring = [[200, 100], [400, 100], [400, 300], [200, 300], [200, 100]]
    hole = [[280, 180], [320, 180], [320, 220], [280, 220], [280, 180]]
    polygon = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring, hole]}, "properties": {}}
    folder = tmp_path / "regions"
    folder.mkdir()
    (folder / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [polygon]}))
    settings = tissue_settings(**SMALL, regions=str(folder))
    found = find_tissue(slide, 16, 0.5, settings)
    full = find_tissue(slide, 16, 0.5, tissue_settings(**SMALL))
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


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def test_collections_count_bow_ties_are_mended_and_lines_are_left_out(tmp_path):
    shapes = [
        {"type": "Polygon", "coordinates": [square(10, 10, 20)]},
        {"type": "MultiPolygon", "coordinates": [[square(50, 10, 20)], [square(10, 50, 30), square(20, 60, 10)]]},
        {"type": "Polygon", "coordinates": [[[60, 60], [90, 90], [90, 60], [60, 90], [60, 60]]]},
        {"type": "LineString", "coordinates": [[0, 0], [99, 99]]},
        {"type": "Polygon", "coordinates": []},
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": shapes}}))
    mask = polygons_mask(read_polygons(path), lambda px0: px0, (100, 100))
    assert mask[15, 15]
    assert mask[15, 60]
    assert mask[55, 15]
    assert not mask[65, 25]  # the hole
    assert mask[75, 65]
    assert mask[75, 85]
    assert not mask[62, 75]  # between the bow tie's halves
    assert not mask[45, 45]
    parts = [{"type": "Feature", "geometry": shape, "properties": {}} for shape in shapes]
    path.write_text(json.dumps(parts))
    assert np.array_equal(polygons_mask(read_polygons(path), lambda px0: px0, (100, 100)), mask)
    assert not polygons_mask(read_polygons(path), lambda px0: px0 - 500, (100, 100)).any()


def fatty_picture(*, um_per_px, septum_um, seed=0):
    """Return a thumbnail of a 1.6 x 1 mm piece on glass, its dense left part, and its adipose rest (both eroded).

    Drawn at 1 um a pixel: vacuoles of 75 um on average (30 to 120) as clear as glass, and pink between them.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1600, 0:2400]
    rows, columns = np.mgrid[0:1600:65, 0:2400:75]
    centres = np.stack([rows, columns + (rows // 65 % 2) * 37.5], -1).reshape(-1, 2) + rng.uniform(-16, 16, (800, 2))
    near, second = np.moveaxis(cKDTree(centres).query(np.stack([y, x], -1), k=2)[0], -1, 0)
    vacuole = (second - near > septum_um) & (near < 60)
    piece = (np.abs(y - 800) < 500) & (np.abs(x - 1200) < 800)
    dense = piece & (x < 900)
    adipose = piece & ~dense
    areas = np.bincount(ndimage.label(vacuole & adipose)[0].ravel())[1:]
    stained = dense | (adipose & ~vacuole)
    noise = rng.normal(0, 0.8, (1600, 2400, 1)) + rng.normal(0, 4, (1600, 2400, 1)) * stained[..., None]
    pixels = np.clip(np.where(stained[..., None], (226, 150, 190), GLASS) + noise, 0, 255)

    def mean(values):
        k = um_per_px
        return values.reshape(1600 // k, k, 2400 // k, k, -1).mean((1, 3))

    inner = [ndimage.binary_erosion(part, iterations=20) for part in (dense, adipose)]
    return np.round(mean(pixels)).astype(np.uint8), *(mean(part)[..., 0] == 1 for part in inner), areas


@pytest.mark.parametrize("um_per_px", [4, 8])
def test_fat_is_glass_by_default_and_tissue_as_fatty(um_per_px):
    image, dense, adipose, areas = fatty_picture(um_per_px=um_per_px, septum_um=3)
    diameters = np.sqrt(areas * 4 / np.pi)
    assert np.percentile(diameters, 10) > 30
    assert diameters.max() < 120
    default, _ = segmenter("default").segment(image, um_per_px)
    fatty, _ = segmenter("fatty").segment(image, um_per_px)
    assert default[dense].mean() > 0.99
    assert fatty[dense].mean() > 0.99
    assert default[adipose].mean() < 0.05
    assert fatty[adipose].mean() > 0.9
    assert not fatty[: 200 // um_per_px].any()  # glass stays glass


def test_pale_stain_is_tissue_as_faint_and_clean_glass_is_not():
    rng = np.random.default_rng(0)
    stained = thumbnail().astype(float)
    pale = np.array(GLASS) + (stained - GLASS) * 0.17 + rng.normal(0, 0.6, stained.shape)
    image = np.clip(pale, 0, 255).round().astype(np.uint8)
    assert not segmenter("default").segment(image, 8.0)[0].any()
    mask, _ = segmenter("faint").segment(image, 8.0)
    truth, _ = segmenter("default").segment(thumbnail(), 8.0)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    glass = np.clip(rng.normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    for name in PRESETS:
        assert not segmenter(name).segment(glass, 8.0)[0].any()


def test_biopsy_keeps_crumbs_that_default_drops():
    image = np.full((120, 160, 3), GLASS, np.uint8)
    image[20:60, 20:140] = (180, 90, 150)
    image[80:92, 30:42] = (180, 90, 150)  # 96 um a side
    image[80:84, 90:94] = (180, 90, 150)  # 32 um a side: dirt
    default, biopsy = (segmenter(name).segment(image, 8.0)[0] for name in ("default", "biopsy"))
    assert default[40, 80]
    assert biopsy[40, 80]
    assert biopsy[86, 36]
    assert not default[70:].any()
    assert not biopsy[70:, 80:].any()


def settings_of(*words):
    return from_config(compose_jobs("prepare", words)[0])[0].tissue


def test_a_data_set_chooses_its_segmenter_and_each_argument_can_be_changed_beside_it():
    demo, paper = settings_of("data=demo"), settings_of("data=brca_8mag", "slides=x")
    assert (demo.segmenter.name, demo.cells_per_tile) == ("demo", 4)
    assert (paper.segmenter.name, paper.cells_per_tile) == ("default", 16)
    changed = segmenter_of(settings_of("data=brca_8mag", "tissue=fatty", "tissue.max_hole_um2=90000").segmenter)
    assert changed == replace(segmenter("fatty"), max_hole_um2=90_000)
    assert (changed.chroma_floor, changed.min_object_um2, changed.pen) == (0.015, 40_000, True)


def test_a_folder_that_was_made_before_segmenters_had_names_is_still_the_same_work():
    known = settings_of("data=demo", "tissue=biopsy", "data.tissue.min_tile=0.2").to_dict()
    assert known == {
        "cells_per_tile": 4, "chroma_floor": 0.03, "chroma_ceiling": 0.04, "smooth_um": 4.0, "min_object_um2": 5000.0,
        "max_hole_um2": 40000.0, "pen": True, "pen_margin_um": 60.0, "min_tile": 0.2, "regions": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tissue=fathy"], r"tissue=fathy: no such option; did you mean 'fatty'\?"),
        (["tissue=ihc"], "expected one of biopsy, default, demo, faint, fatty"),
        (["tissue=faint", "tissue.chroma_floor=0.03"], r"chroma_floor=0\.03: above chroma_ceiling=0\.02"),
        (["tissue.smoth_um=3"], "did you mean 'tissue.smooth_um'"),
        (["data.tissue.cells_per_tile=0"], "expected 1 or more"),
        (["data.tissue.regions=/nowhere"], "no such folder"),
    ],
)
def test_unknown_options_and_bounds_that_cross_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(*words)


OWN_SEGMENTER = """
from data_prep.tissue.segmenter import Segmenter

class Dark(Segmenter):
    def __init__(self, *, below):
        self.below = below

    def segment(self, thumbnail, um_per_px):
        tissue = thumbnail.min(2) < self.below
        return tissue, tissue & False
"""


def test_a_segmenter_of_ones_own_makes_the_mask(tiny_slide, tmp_path, monkeypatch):
    (tmp_path / "darkness.py").write_text(OWN_SEGMENTER)
    monkeypatch.syspath_prepend(tmp_path)
    section = {"_target_": "darkness.Dark", "name": "dark", "below": 200}
    settings = replace(tissue_settings(), segmenter=Option("tissue", section, ("darkness",)))
    found = find_tissue(open_slide(tiny_slide()), 16, 0.5, settings)
    assert np.array_equal(found.mask, (found.thumbnail < 200).any(2))
    assert settings.to_dict()["segmenter"] == "darkness.Dark"
    with pytest.raises(ConfigError, match=r"allow_code=\[darkness\]"):
        segmenter_of(Option("tissue", section | {"below": 201}))
