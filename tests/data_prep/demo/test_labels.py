"""What the painter says of the demo's patches is what it painted there."""

import csv

import numpy as np
import pytest

from data_prep.demo import labels
from data_prep.demo.anatomy import Tissue
from data_prep.demo.blueprint import draw_blueprint
from data_prep.demo.labels import TYPES, Areas, main, named, write_labels
from data_prep.demo.patient import MPP, draw_patient
from data_prep.demo.slides import DRAWING_VERSION, RECORD, slide_name
from tests.helpers.toy_data import make_toy_data
from zoomldm.data.schema import SampleMeta, make_key
from zoomldm.errors import DataError, UserError
from zoomldm.files import write_json

SIDE_PX = 512


def meta_of(x, y, side_px, slide="demo-P01"):
    key = make_key(slide, side_px // 32, x, y)
    place = {"slide": slide, "patient": slide, "split": "train", "x_px0": x, "y_px0": y, "region_px0": side_px}
    return SampleMeta(key=key, magnification=20, mpp_nominal=0.5, mpp_true=0.5, tissue=1.0, **place)


def record(folder, num_patients):
    """Leave beside no slides what their drawing leaves: labels are drawn anew and need no pixels."""
    drawing = {"drawing_version": DRAWING_VERSION, "seed": 0, "side_px": SIDE_PX, "mpp": MPP}
    patients = {slide_name(number): {} for number in range(1, num_patients + 1)}
    write_json(folder / RECORD, {"drawing": drawing, "patients": patients})


@pytest.fixture(scope="module")
def painted():
    return draw_blueprint(draw_patient(0, 1), SIDE_PX).labels


def test_shares_are_those_of_the_painted_pixels_also_over_the_edge(painted):
    areas = Areas(painted)
    for x, y, side in ((0, 0, 512), (64, 96, 128), (480, 32, 32), (448, 448, 128)):
        region = painted[y : y + side, x : x + side]
        expected = [np.isin(region, tissues).sum() / side**2 for tissues in TYPES.values()]
        assert areas.shares(meta_of(x, y, side)) == pytest.approx(expected)
    with pytest.raises(DataError, match="no multiple of 32"):
        areas.shares(meta_of(16, 0, 32))


def test_no_tissue_is_of_two_types_and_glass_of_none():
    counted = [tissue for tissues in TYPES.values() for tissue in tissues]
    assert len(set(counted)) == len(counted)
    assert set(Tissue) - set(counted) == {Tissue.GLASS, Tissue.BLOOD}


def test_a_patch_is_called_by_what_covers_half_of_it():
    assert named(np.array([0.1, 0.5, 0.2, 0.1])) == ("stroma", 0.5)
    assert named(np.array([0.1, 0.49, 0.2, 0.1])) == ("", 0.49)


def test_the_tables_name_every_patch_and_patient(tmp_path, monkeypatch, painted):
    record(tmp_path / "slides", 2)
    root = tmp_path / "data"
    make_toy_data(root)
    metas = [meta_of(x, 64, 128) for x in (0, 128, 256)]
    monkeypatch.setattr(labels, "_metas", lambda manifest: iter(metas))
    counts = write_labels(root, tmp_path / "slides")
    rows = list(csv.DictReader((root / "tissue.csv").open()))
    assert [row["key"] for row in rows] == sorted(meta.key for meta in metas)
    told = {meta.key: named(Areas(painted).shares(meta))[0] for meta in metas}
    assert {row["key"]: row["tissue"] for row in rows} == told
    assert counts["20x"].total() == 3
    patients = {row["slide"]: row for row in csv.DictReader((root / "composition.csv").open())}
    assert list(patients) == ["demo-P01", "demo-P02"]
    assert float(patients["demo-P02"]["fat"]) == pytest.approx(draw_patient(0, 2).fat, abs=1e-4)


def test_slides_of_others_are_refused(tmp_path):
    make_toy_data(tmp_path / "data")
    with pytest.raises(DataError, match=r"demo_slides\.json: cannot be read"):
        write_labels(tmp_path / "data", tmp_path)
    record(tmp_path / "slides", 1)
    with pytest.raises(DataError, match="is none of those in"):
        write_labels(tmp_path / "data", tmp_path / "slides")
    with pytest.raises(UserError, match="did you mean 'slides'"):
        main(["slide=x"])
    with pytest.raises(UserError, match="slides: missing"):
        main(["data=x"])
