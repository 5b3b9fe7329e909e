"""What is said of slides before one is read: drawings that belong to none, frozen sections."""

import pytest

from data_prep.execution.serial import SerialExecutor
from data_prep.prepare import prepare
from data_prep.report.doubts import unused_drawings
from data_prep.report.estimate import print_estimate
from tests.data_prep.test_prepare import config_of
from tests.helpers.prepare import prepare_folder, tiny_preparation
from tests.helpers.tiny_slides import SMALL_TISSUE, tissue_settings
from zoomldm.errors import ConfigError

FROZEN = "TCGA-3C-AALI-01A-01-TS1"
EMPTY = '{"type": "FeatureCollection", "features": []}'


def test_drawings_that_no_slide_is_called_after_are_listed_with_what_was_meant(tiny_slide, tmp_path, capsys):
    """Also beforehand, as a mask that is not restricted looks like one that is."""
    for seed, name in enumerate("abc"):
        slides = tiny_slide(f"case-{name}", seed=seed, width=400, height=360).parent
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for name in ("case-a.geojson", "case-b.tif.geojson", "Case-c.GeoJSON", "zzzzzz.geojson", "notes.txt"):
        (drawn / name).write_text(EMPTY)
    preparation = tiny_preparation(
        slides, tmp_path / "plan", tissue=tissue_settings(**SMALL_TISSUE, regions=str(drawn))
    )
    assert unused_drawings(preparation) == [
        "Case-c.GeoJSON (did you mean 'case-c'?)",
        "case-b.tif.geojson (did you mean 'case-b'?)",
        "zzzzzz.geojson",
    ]
    words = f"3 drawings in data.tissue.regions={drawn} of no slide of this command, and unused: Case-c.GeoJSON"
    print_estimate(preparation, SerialExecutor())
    assert f"note: {words}" in capsys.readouterr().out
    assert words in (tmp_path / "plan" / "plan" / "index.html").read_text()
    prepare_folder(slides, tmp_path / "data", tissue=preparation.slide_settings.tissue)
    assert f"note: {words}" in capsys.readouterr().out
    assert words in (tmp_path / "data" / "qc" / "index.html").read_text()


def test_drawings_of_slides_that_are_left_out_are_no_ones_mistake(slides, tmp_path):
    preparation = tiny_preparation(slides, tmp_path / "data")
    assert unused_drawings(preparation) == []
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "x.geojson").write_text(EMPTY)
    preparation = tiny_preparation(
        slides, tmp_path / "data", tissue=tissue_settings(**SMALL_TISSUE, regions=str(drawn))
    )
    preparation.excluded.append("/elsewhere/x.svs")
    assert unused_drawings(preparation) == []


def test_frozen_sections_are_warned_of_and_left_out_where_that_is_said(slides, tiny_slide, tmp_path, capsys):
    tiny_slide(FROZEN, seed=7, width=400, height=360)

    def prepared(**words):
        cfg = config_of(tmp_path / "data", slides, **words)
        cfg.slide.frozen = not words
        return [line["slide"] for line in prepare(cfg).slides]

    cfg = config_of(tmp_path / "plan", slides, plan=True)
    cfg.slide.frozen = False
    prepare(cfg)
    assert f"note: 1 frozen section left out (slide.frozen=false): {FROZEN}" in capsys.readouterr().out
    assert FROZEN not in [path.stem for path in (tmp_path / "plan" / "plan").iterdir()]
    assert prepared() == [FROZEN, "a", "b", "c"]
    said = capsys.readouterr().out
    assert "warning: 1 frozen section by barcode, which slide.frozen=false leaves out (diagn" in said
    assert prepared(repack=True) == ["a", "b", "c"]
    assert f"note: 1 frozen section left out (slide.frozen=false): {FROZEN}" in capsys.readouterr().out


def test_frozen_sections_alone_are_said(tiny_slide, tmp_path):
    cfg = config_of(tmp_path / "data", tiny_slide(FROZEN).parent)
    cfg.slide.frozen = False
    with pytest.raises(ConfigError, match=r"slide\.frozen=false: every slide of it is a frozen section"):
        prepare(cfg)
