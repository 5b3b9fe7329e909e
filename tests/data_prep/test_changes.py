"""What has changed since slides were read is said, asked about where shards are there, and redone alone."""

import json

import pytest

from data_prep import pipeline
from data_prep.report.verification import verify
from data_prep.work import prepare_slide, stale
from tests.data_prep.pack.test_repack import all_of, with_latents
from tests.helpers.prepare import hashes, prepare_folder
from tests.helpers.tiny_slides import tissue_settings
from zoomldm.errors import ConfigError


@pytest.fixture
def read(monkeypatch):
    """Return the names of the slides that are read from now on."""
    names, original = [], pipeline.prepare_slide

    def noting(job):
        names.append(job.spec.name)
        return original(job)

    monkeypatch.setattr(pipeline, "prepare_slide", noting)
    return names


@pytest.fixture
def raised(monkeypatch):
    """Return a function that raises WORK_VERSION."""

    def to_two():
        for module in (prepare_slide, stale):
            monkeypatch.setattr(module, "WORK_VERSION", 2)

    return to_two


def test_a_raised_work_version_is_said_and_done_without_asking_where_no_shards_are(
    slides, tmp_path, read, raised, capsys
):
    data = tmp_path / "data"
    prepare_folder(slides, data, part=(1, 2))
    assert read == ["a", "c"]
    raised()
    prepare_folder(slides, data)
    assert "read again: 2 of 3 slides: work version 1 there, 2 now" in capsys.readouterr().out
    assert sorted(read[2:]) == ["a", "b", "c"]
    prepare_folder(slides, data)
    assert "nothing to do" in capsys.readouterr().out


def test_a_raised_work_version_is_asked_about_where_shards_are(slides, tmp_path, read, raised, capsys):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    before = hashes(data)
    raised()
    del read[:]
    said = (
        rf"{len(before)} finished tars of {len(before) // 3} shards, .* MB, would be made anew.*work version 1 there, 2"
    )
    with pytest.raises(ConfigError, match=said):
        prepare_folder(slides, data)
    assert (read, hashes(data)) == ([], before)
    capsys.readouterr()
    prepare_folder(slides, data, repack=True)
    assert "read again: 3 of 3 slides: work version 1 there, 2 now" in capsys.readouterr().out
    assert sorted(read) == ["a", "b", "c"]
    assert hashes(data) == before


def draw(path, right_px):
    ring = [[0, 0], [right_px, 0], [right_px, 360], [0, 360], [0, 0]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))


def test_an_edited_annotation_is_read_again_and_changes_its_shards_alone(slides, tiny_slide, tmp_path, read):
    data, drawn = tmp_path / "data", tmp_path / "drawn"
    drawn.mkdir()
    draw(drawn / "d.geojson", 400)
    tissue = tissue_settings(min_object_um2=100.0, max_hole_um2=100.0, smooth_um=2.0, regions=str(drawn))
    told = {"tissue": tissue, "shard_samples": 40}
    first = {shard.path for shard in prepare_folder(slides, data, **told).shards}
    tiny_slide("d", seed=9, folder="new", width=400, height=360)
    with_latents(prepare_folder(tmp_path / "new", data, **told))
    old = hashes(data)
    del read[:]
    draw(drawn / "d.geojson", 220)
    with pytest.raises(ConfigError, match="slide d: its annotation is another, so that it is read again"):
        prepare_folder(slides, data, specs=all_of(slides, tmp_path / "new"), **told)
    assert read == []
    manifest = prepare_folder(slides, data, specs=all_of(slides, tmp_path / "new"), repack=True, **told)
    assert read == ["d"]
    now = hashes(data)
    assert {n: h for n, h in old.items() if n.rsplit(".", 2)[0] in first}.items() <= now.items()
    assert {n for n in old if n.rsplit(".", 2)[0] not in first and old[n] == now.get(n)} == set()
    assert verify(with_latents(manifest)) == []


def test_a_slide_that_cannot_be_read_again_keeps_its_work_and_the_report_says_so(slides, tmp_path, capsys):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    before, whole = hashes(data), (slides / "a.tif").read_bytes()
    (slides / "a.tif").write_bytes(whole[:3000])
    for _ in range(2):
        capsys.readouterr()
        manifest = prepare_folder(slides, data, repack=True)
        assert "failed: a: " in (said := capsys.readouterr()).out + said.err
        assert "its work of before stays" in said.out + said.err
        assert hashes(data) == before
        assert verify(manifest) == []
    assert (data / "slides" / "a" / "error.txt").read_text().startswith("Traceback")
    assert "reading it again failed, its work of before stays" in (data / "qc" / "index.html").read_text()
    (slides / "a.tif").write_bytes(whole)
    prepare_folder(slides, data)
    assert hashes(data) == before
