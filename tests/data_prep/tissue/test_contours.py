"""Masks as polygons that QuPath opens, and back."""

import json

import numpy as np
import pytest
import shapely
from scipy import ndimage

from data_prep.tissue.contours import geojson_of, mask_polygons
from data_prep.tissue.geojson import drawn_path, polygons_mask, read_polygons
from data_prep.tissue.mask import find_tissue
from tests.helpers.prepare import prepare_folder
from tests.helpers.tiny_slides import SMALL_TISSUE, open_slide, tissue_settings


@pytest.mark.parametrize("smooth", [0.0, 1.0, 3.0])
def test_polygons_are_the_mask_to_the_pixel(smooth, tmp_path):
    """Holes, islands in holes, pieces that touch at a corner, and the mask's own edge."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((61, 83)), smooth)
    mask = noise > np.median(noise)
    polygons = mask_polygons(mask)
    assert all(polygon.is_valid for polygon in polygons)
    assert sum(polygon.area for polygon in polygons) == mask.sum() == shapely.union_all(polygons).area
    assert len(polygons) == ndimage.label(mask)[1]
    assert np.array_equal(polygons_mask(polygons, lambda px: px, mask.shape), mask)
    path = tmp_path / "a.geojson"
    path.write_text(geojson_of(mask, pitch_px0=24.2424, origin_px0=(1000, 77)))
    back = polygons_mask(read_polygons(path), lambda px0: (px0 - (1000, 77)) / 24.2424, mask.shape)
    assert np.array_equal(back, mask)


def test_a_mask_without_tissue_and_one_without_glass():
    assert mask_polygons(np.zeros((4, 5), bool)) == []
    assert [polygon.bounds for polygon in mask_polygons(np.ones((4, 5), bool))] == [(0, 0, 5, 4)]
    assert json.loads(geojson_of(np.zeros((4, 5), bool), pitch_px0=1.0, origin_px0=(0, 0)))["features"] == []


def test_contours_of_a_run_edited_are_the_tissue_of_the_next(tiny_slide, tmp_path):
    """As QuPath has it: a feature each piece, of class Tissue, in level-0 pixels; one enlarged, the others deleted."""
    path = tiny_slide("a", width=700, height=500, mpp=0.25)
    tiny_slide("b", width=700, height=500, mpp=0.25, seed=1)
    prepare_folder(path.parent, tmp_path / "data", min_object_um2=100.0)
    written = tmp_path / "data" / "qc" / "a.geojson"
    features = json.loads(written.read_text())["features"]
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"Tissue"}
    assert {feature["properties"]["objectType"] for feature in features} == {"annotation"}
    outline = shapely.union_all([shapely.geometry.shape(feature["geometry"]) for feature in features])
    assert np.allclose(outline.bounds, (84, 60, 616, 440), atol=30)  # the ellipse of 0.12 margin
    slide = open_slide(path)
    settings = tissue_settings(**(SMALL_TISSUE | {"smooth_um": 2.0}), regions=str(written.parent))
    whole = find_tissue(slide, 16, 0.5, tissue_settings(**(SMALL_TISSUE | {"smooth_um": 2.0}))).tissue
    assert np.array_equal(find_tissue(slide, 16, 0.5, settings).tissue, whole)  # not edited, nothing changes
    added = shapely.box(0, 0, 160, 80)
    geometry = shapely.geometry.mapping(shapely.union_all([added, outline]))
    written.write_text(json.dumps({"type": "Feature", "geometry": geometry, "properties": {}}))
    replaced = tissue_settings(**SMALL_TISSUE, regions=str(written.parent), regions_replace=True)
    expected = whole.copy()
    expected[:10, :20] = True
    assert np.array_equal(find_tissue(slide, 16, 0.5, replaced).tissue, expected)


def test_a_name_that_is_none_of_a_file_does_not_leave_the_folder(tmp_path):
    assert drawn_path(tmp_path, "a.b c") == tmp_path / "a.b c.geojson"
    assert drawn_path(tmp_path, "../x").parent == tmp_path
