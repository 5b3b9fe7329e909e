"""plan=true: what would be made, from thumbnails, and a page to look at."""

from data_prep.execution.serial import SerialExecutor
from data_prep.report.estimate import cost_lines, estimate_slide, print_estimate
from data_prep.work.job import SlideJob
from tests.helpers.prepare import prepare_folder, tiny_preparation
from tests.helpers.tiny_slides import swapped_profile, tissue_pixels, write_slide


def test_a_plan_shows_masks_and_says_the_patches_that_will_be_made(slides, tmp_path, capsys):
    (slides / "junk.tif").write_bytes(b"junk")
    root = tmp_path / "data"
    print_estimate(tiny_preparation(slides, root), SerialExecutor())
    said = capsys.readouterr().out
    manifest = prepare_folder(slides, tmp_path / "made")
    made = {label: sum(counts.get(label, 0) for counts in manifest.counts.values()) for label in manifest.ladder.labels}
    rows = {line.split()[0]: line.split()[1] for line in said.splitlines() if line.split()[0] in made}
    assert all(f"{part} " in said for part in ("reading", "encoding", "packing"))
    assert "colour profiles" not in said
    assert rows == {label: f"{count:,}" for label, count in made.items()}
    assert sorted(path.name for path in (root / "plan").iterdir()) == [
        *(f"{slide}.{kind}" for slide in "abc" for kind in ("geojson", "jpg")),
        "index.html",
    ]
    page = (root / "plan" / "index.html").read_text()
    assert f"look at {root / 'plan' / 'index.html'}" in said
    assert page.count("<img") == 3
    assert "junk" in page
    assert "cannot be decoded" in page
    for line in manifest.slides[:3]:
        assert " ".join(f"{label} {count}" for label, count in line["counts"].items() if count) in page
    assert sorted(path.name for path in root.iterdir()) == ["plan"]  # nothing else has begun


def test_a_colour_profile_costs_its_slides_pixels(slides, tmp_path):
    write_slide(slides / "a.tif", tissue_pixels(400, 300, 0), icc=swapped_profile())
    preparation = tiny_preparation(slides, tmp_path / "data")
    settings = preparation.slide_settings
    found = {
        spec.name: estimate_slide(SlideJob.of(spec, settings, tmp_path / "data", by_area=False))
        for spec in preparation.specs
    }
    assert found["a"].num_icc_px == found["a"].num_read_px > 0
    assert found["b"].num_icc_px == 0
    lines = "\n".join(cost_lines(list(found.values()), 1e6, settings))
    assert "colour profiles" in lines
    assert "slide.icc=false" in lines
