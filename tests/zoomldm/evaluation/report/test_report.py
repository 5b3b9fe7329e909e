"""The report holds every row, the paper's table, the claims and the pictures, and says what is not judged."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.helpers.toy_evaluation import ToyEDM, ToyModel, ToySource, make_rows, toy_evaluator, toy_patches
from zoomldm.encoder.stats import StatsEncoder
from zoomldm.evaluation.report import references
from zoomldm.evaluation.report.page import Page, Section, Table
from zoomldm.evaluation.report.pictures import loss_curves
from zoomldm.evaluation.report.report import summary_sentence, write_report
from zoomldm.evaluation.report.tables import distance_table
from zoomldm.sampling import pictures

ROWS = {row.name: row.title for row in make_rows()}


@pytest.fixture(scope="module")
def evaluated():
    evaluator = toy_evaluator(
        edm=ToyEDM(),
        source=ToySource(num_train=200, num_test=50),
        num_per_magnification=100,
        num_examples=4,
        untrained=ToyModel(9),
        encoder=StatsEncoder(),
    )
    data = {"name": "toy <data>", "counts": {"train": {"20x": 200}}}
    return evaluator.run(
        run_name="toy", step=7, data=data, hardware="2 cores", date="2026-01-01"
    ), evaluator.bench.examples


@pytest.fixture(scope="module")
def report(evaluated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    lines = [{"step": s, "name": f"loss/{x}", "value": 1 / s} for s in (1, 2, 3) for x in ("20x", "5x")]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"step": 1, "name": "lr", "value": 1}])))
    write_report(*evaluated, folder, metrics=folder / "metrics.jsonl")
    return folder


def test_one_html_file_needs_no_other(evaluated, report):
    page = (report / "index.html").read_text()
    assert page.count('<img class="chart"') == 2
    assert page.count('<img class="part"') == 2 * len(evaluated[0].magnifications)  # Figure 2 and novel patches
    assert page.count("data:image/png;base64,") == page.count("<img ")
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "toy &lt;data&gt;" in page
    assert "<script" not in page


def test_both_forms_hold_every_row_the_paper_and_the_claims(evaluated, report):
    for text in ((report / "index.html").read_text(), (report / "report.md").read_text()):
        for row in ROWS.values():
            assert row in text
        assert "9.29" in text
        assert "FID: ZoomLDM, oracle conditions" in text
        assert "another metric" in text
        assert "holds" in text
        assert "loss/20x" not in text
        assert "2 cores" in text


def test_markdown_pictures_lie_beside_it(report):
    names = re.findall(r"\]\((\S+\.png)\)", (report / "report.md").read_text())
    assert set(names) == {"reference_synthetic.png", "distances.png", "novel_generated.png", "curves_loss.png"}
    for name in names:
        Image.open(report / name).verify()


def test_unjudged_cells_are_marked(evaluated):
    table = distance_table(evaluated[0])
    held_out = next(row for row in table.rows if row[0] == ROWS["held_out"])
    oracle = next(row for row in table.rows if row[0] == ROWS["oracle"])
    assert all(cell.endswith("†") for cell in held_out[1:])
    assert not any(cell.endswith("†") for cell in oracle[1:])


def test_flattering_descriptor_says_so(evaluated):
    assert "flatters" in distance_table(evaluated[0], "fd_stats").caption
    assert "flatters" not in distance_table(evaluated[0]).caption


def test_summary_names_the_ends(evaluated):
    assert "at 20x fd_texture is" in summary_sentence(evaluated[0])
    assert "at 5x fd_texture is" in summary_sentence(evaluated[0])


def test_loss_curves_of_nothing_and_of_damaged_lines(tmp_path):
    assert loss_curves(None) == loss_curves(tmp_path / "absent") == {}
    (tmp_path / "m.jsonl").write_text('{"step": 1, "name": "validation/loss/5x", "value": 2.0}\n{"step": 2, "na')
    assert loss_curves(tmp_path / "m.jsonl") == {"validation/loss": {"5x": [(1, 2.0)]}}


def test_table_1_is_the_papers():
    oracle, sota, generated = references.TABLE_1
    assert oracle.at("0.15625x") == 22.5
    assert sota.at("2.5x") is None
    assert generated.at("20x") == 14.96
    assert oracle.at("40x") is None


def test_words_in_a_table_are_broken_into_lines_and_figures_are_not():
    table = Table(["setting", "value"], [["images", "as stored for training, at full length"], ["n", "12 ± 3"]])
    found = Page("t", "", "", [Section("s", [table])]).to_html()
    assert '<td class=words data-column="value">as stored' in found
    assert '<td data-column="value">12<small>' in found


def test_pipes_and_angles_are_escaped():
    page = Page("t", "a < b", "", [Section("s", [Table(["x", "y"], [["a|b", "<b>"]])])])
    assert "a\\|b" in page.to_markdown()
    assert "<b>" not in page.to_html()


def test_patches_are_enlarged_by_repeating_pixels():
    patch = toy_patches(1)[0]
    large = np.asarray(pictures.enlarge(patch, 96))
    assert large.shape == (96, 96, 3)
    assert np.array_equal(large[::3, ::3], patch)
    assert pictures.enlarge(np.zeros((256, 256, 3), np.uint8), 96).width == 96


def test_contact_sheet_shows_every_patch():
    patches = toy_patches(5)
    sheet = pictures.contact_sheet(patches, title="5x", side_px=32)
    pixels = np.asarray(sheet)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (32, 32, 3))[:, :, 0]
    for patch in patches:
        at = np.argwhere((windows[:, :, 0, 0] == patch[0, 0]).all(-1))
        assert any(np.array_equal(windows[y, x], patch) for y, x in at)
    paired = pictures.contact_sheet(patches, references=patches[::-1], side_px=32)
    assert paired.width > sheet.width
