"""A slide's mask, and the settings that make it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_prep.settings import from_config
from data_prep.tissue.mask import find_tissue, segmenter_of
from tests.helpers.tiny_slides import (
    GLASS,
    SMALL_TISSUE,
    open_slide,
    segmenter,
    tissue_settings,
    write_slide,
)
from zoomldm.composing import compose_jobs
from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError


def test_a_tiles_fraction_is_the_part_of_it_that_is_tissue_and_glass_is_the_slides(tmp_path):
    pixels = np.full((320, 480, 3), GLASS, np.uint8)
    pixels[52:200, 100:300] = (180, 90, 150)
    found = find_tissue(
        open_slide(write_slide(tmp_path / "a.tif", pixels)),
        16,
        0.5,
        tissue_settings(**SMALL_TISSUE | {"smooth_um": 0.01}),
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
    settings = tissue_settings(**SMALL_TISSUE, regions=str(folder))
    found = find_tissue(slide, 16, 0.5, settings)
    full = find_tissue(slide, 16, 0.5, tissue_settings(**SMALL_TISSUE))
    px0 = 8  # level-0 pixels a mask pixel
    assert found.tissue.sum() < full.tissue.sum()
    assert not found.tissue[:, : 190 // px0].any()
    assert not found.tissue[:, 416 // px0 :].any()
    assert not found.tissue[200 // px0, 300 // px0]
    row = 120 // px0, slice(220 // px0, 380 // px0)
    assert np.array_equal(found.tissue[row], full.tissue[row])
    drawn = find_tissue(slide, 16, 0.5, replace(settings, regions_replace=True)).tissue
    inside = np.zeros(drawn.shape, bool)
    inside[100 // px0 : 300 // px0, 200 // px0 : 400 // px0] = True  # pixels whose centres lie inside
    inside[180 // px0 : 220 // px0, 280 // px0 : 320 // px0] = False
    assert np.array_equal(drawn, inside)
    assert np.array_equal(found.tissue, full.tissue & inside)
    (folder / "slide.geojson").write_text("[1, 2]")
    with pytest.raises(DataError, match="not a GeoJSON"):
        find_tissue(slide, 16, 0.5, settings)


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
    assert np.array_equal(found.tissue, (found.thumbnail < 200).any(2))
    assert settings.to_dict()["segmenter"] == "darkness.Dark"
    with pytest.raises(ConfigError, match=r"allow_code=\[darkness\]"):
        segmenter_of(Option("tissue", section | {"below": 201}))
