"""Polygons that a person drew."""

import json

import numpy as np

from data_prep.tissue.geojson import polygons_mask, read_polygons


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
