"""Synthetic slides beside real ones: what preparation found in either, and which of it lies outside."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from data_prep.report.comparison import WHOLE, Finding, check_alike, findings_of
from data_prep.report.comparison_page import csv_of, table_of, write_comparison
from data_prep.report.findings import EMBEDDINGS, PATCHES, FoundSlide, found_in, standardised
from tests.helpers.prepare import prepare_folder, samples_of
from tests.helpers.tiny_slides import tissue_pixels, write_slide
from zoomldm.data.schema import decode_grid
from zoomldm.errors import DataError
from zoomldm.features.stats import StatsDescriptor

MANY = 10_000


def prepared(folder, root, seeds, **values):
    """Prepare slides of noise, half of them a little paler with ``paler``."""
    folder.mkdir()
    paler = values.pop("paler", 0)
    for seed in seeds:
        pixels = tissue_pixels(900, 900, seed, margin=0.02).astype(int)
        write_slide(folder / f"s{seed}.tif", np.clip(pixels + paler, 0, 255).astype(np.uint8))
    return prepare_folder(folder, root, split_mode="paper", num_rungs=4, **values)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return a set of two paler slides and one of four, and what was found in either."""
    path = tmp_path_factory.mktemp("sets")
    synthetic = prepared(path / "a", path / "synthetic", (7, 8), paler=25)
    real = prepared(path / "b", path / "real", (0, 1, 2, 3))
    told = {"num_per_magnification": MANY, "seed": 0}
    return synthetic, real, *(found_in(one, [StatsDescriptor()], **told) for one in (synthetic, real))


def test_what_is_found_is_what_lies_in_the_shards(both):
    _, real, _, found = both
    assert list(found) == ["s0", "s1", "s2", "s3"]
    lying = [(shard, meta, fields) for shard, meta, fields in samples_of(real) if meta.slide == "s1"]
    for label in real.ladder.labels:
        own = [(meta, fields) for shard, meta, fields in lying if f"{shard.magnification:g}x" == label]
        assert found["s1"].by_rung[label][PATCHES] == len(own) == len(found["s1"].vectors[label][EMBEDDINGS])
        means = np.mean([decode_grid(fields["grid"]).astype(np.float32).mean((0, 1)) for _, fields in own], 0)
        vectors = standardised(found["s1"].vectors[label][EMBEDDINGS], real)
        np.testing.assert_allclose(vectors.mean(0), means, atol=2e-3)


def test_paler_slides_lie_outside_in_stain_and_not_in_size(both):
    _, real, ours, theirs = both
    findings = {(one.name, one.label): one for one in findings_of(ours, theirs, real)}
    assert findings["area, mm²", WHOLE].outside == 0
    assert findings["haematoxylin, density", "20x"].outside == 2
    assert findings["fd_stats", "20x"].outside == 2
    low, high = (pick(findings["fd_stats", "20x"].real.values()) for pick in (min, max))
    assert 0 < low < high < min(findings["fd_stats", "20x"].synthetic.values())
    assert ("fd_stats", "2.5x") not in findings  # too few for 24 numbers


def test_a_set_beside_itself_lies_outside_in_nothing(both):
    _, real, _, found = both
    figures = [one for one in findings_of(found, found, real) if not one.name.startswith(("fd_", "Fréchet"))]
    assert len(figures) > 20
    assert all(one.outside == 0 for one in figures)


def test_old_work_without_a_figure_and_slides_without_work_are_left_out(both):
    known, unknown = (FoundSlide({"focus": value}, {}) for value in (2.0, float("nan")))
    (one,) = findings_of({"a": known, "b": unknown}, {"c": known, "d": FoundSlide({}, {})}, both[1])
    assert (one.synthetic, one.real) == ({"a": 2.0}, {"c": 2.0})
    assert not findings_of({"b": unknown}, {"c": known}, both[1])


def test_sets_of_other_patches_or_encoders_are_refused(both):
    synthetic, real, *_ = both
    check_alike(synthetic, real)
    with pytest.raises(DataError, match="prepare both with one data="):
        check_alike(synthetic, replace(real, ladder=replace(real.ladder, patch_px=32)))
    other = replace(real.encoder, name="uni", weights_sha256="f00d")
    with pytest.raises(DataError, match=r"stats \(weights None\) and uni \(weights f00d\)"):
        check_alike(synthetic, replace(real, encoder=other))


def test_the_page_shows_figures_patches_and_what_lies_outside(both, tmp_path):
    synthetic, real, ours, theirs = both
    findings = findings_of(ours, theirs, real)
    page = write_comparison(tmp_path / "new", findings, ours, theirs, names=(synthetic.name, real.name))
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "comparison.md", "patches.png", "slides.csv"}
    assert "2 synthetic slides" in page.read_text()
    assert "| haematoxylin, density " in (page.parent / "comparison.md").read_text()
    rows = list(csv.DictReader(io.StringIO((page.parent / "slides.csv").read_text())))
    assert sum(row["figure"] == "tissue, part" and row["set"] == "real" for row in rows) == 4


def test_a_row_says_median_range_and_how_many_lie_outside():
    within = Finding(name="focus", label=WHOLE, synthetic={"a": 2.0}, real={"b": 1.0, "c": 3.0})
    beyond = Finding(name="eosin", label="5x", synthetic={"a": 0.5, "d": 2.0}, real={"b": 1.0, "c": 3.0})
    alone = Finding(name="pen", label=WHOLE, synthetic={"a": 1.0}, real={"b": 0.0})
    table = table_of([within, beyond, alone])
    assert table.rows[0] == ("focus", "slide", "2", "2 (1 to 3)", "0 of 1")
    assert table.rows[1] == ("eosin", "5x", "1.25 (0.5 to 2)", "2 (1 to 3)", "1 of 2")
    assert table.rows[2][-1] == "–"
    assert list(table.styles) == ["", "strong", ""]
    assert csv_of([alone]).splitlines()[1:] == ["pen,,synthetic,a,1.0", "pen,,real,b,0.0"]
