"""plan=true: what would be made, from thumbnails, and a page to look at."""

from data_prep.execution.serial import SerialExecutor
from data_prep.report.estimate import print_estimate
from tests.helpers.prepare import prepare_folder, tiny_preparation


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
