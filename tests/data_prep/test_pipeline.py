"""Runs over a folder of slides: what is done again, what is kept, and what is refused."""

from dataclasses import replace

import pytest

from data_prep.execution.local import LocalExecutor
from data_prep.report.verification import verify
from data_prep.slides.table import find_slides
from data_prep.work import prepare_slide as work
from tests.helpers.prepare import hashes, prepare_folder, samples_of
from tests.helpers.tiny_slides import SUFFIXES
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, DataError


def test_the_same_bytes_from_processes_and_whatever_the_order(slides, tmp_path):
    prepare_folder(slides, tmp_path / "one")
    prepare_folder(slides, tmp_path / "two", part=(2, 2))
    prepare_folder(slides, tmp_path / "two", part=(1, 2))
    prepare_folder(slides, tmp_path / "two", executor=LocalExecutor(2))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two")]
    assert manifests[0] == manifests[1]


def test_a_second_run_does_nothing_and_keeps_the_latents(slides, tmp_path, capsys, monkeypatch):
    manifest = prepare_folder(slides, tmp_path / "data")
    manifest.columns["latent"] = {"std": 1.0}
    manifest.save(manifest.root)
    monkeypatch.setattr("data_prep.pipeline.prepare_slide", lambda job: pytest.fail("a slide was done twice"))
    again = prepare_folder(slides, tmp_path / "data")
    assert "nothing to do" in capsys.readouterr().out
    assert again.columns["latent"] == {"std": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"test_fraction": 0.6},
        {"split_mode": "paper"},
        {"shard_samples": 150},
        {"min_samples": {"train": 15, "test": 2}},
    ],
)
def test_what_decides_packing_alone_packs_again_and_reads_no_slide(slides, tmp_path, monkeypatch, change):
    wanted = prepare_folder(slides, tmp_path / "fresh", **change)
    prepare_folder(slides, tmp_path / "data")
    monkeypatch.setattr("data_prep.pipeline.prepare_slide", lambda job: pytest.fail("a slide was read again"))
    manifest = prepare_folder(slides, tmp_path / "data", repack=True, **change)
    assert replace(manifest, root=None).to_dict() == replace(wanted, root=None).to_dict()
    assert hashes(tmp_path / "data") == hashes(tmp_path / "fresh")
    assert verify(manifest) == []


def test_a_split_by_patients_may_follow_one_that_held_out_nothing(slides, tmp_path):
    prepare_folder(slides, tmp_path / "data", split_mode="paper")
    manifest = prepare_folder(slides, tmp_path / "data", repack=True)
    assert len(manifest.patients["test"]) == 1
    assert verify(manifest) == []


def test_each_slide_is_in_one_part(slides, tiny_slide, tmp_path, monkeypatch):
    for number, name in enumerate(("d", "e")):
        tiny_slide(name, seed=10 + number, width=400, height=360)
    done, original = [], work.prepare_slide
    monkeypatch.setattr("data_prep.pipeline.prepare_slide", lambda job: done.append(job.spec.name) or original(job))
    sizes = []
    for number in (3, 1, 2):
        before = len(done)
        assert prepare_folder(slides, tmp_path / "data", part=(number, 3)) is None
        sizes.append(len(done) - before)
    assert sorted(done) == ["a", "b", "c", "d", "e"]
    assert sorted(sizes) == [1, 2, 2]
    assert prepare_folder(slides, tmp_path / "data") is not None
    assert len(done) == 5


def test_a_corrected_scale_is_read_again_and_reaches_the_shards(tiny_slide, slides, tmp_path):
    tiny_slide("u", mpp=None, seed=5, width=800, height=720)
    scales = {}
    for mpp in (0.5, 0.25):
        specs, _ = find_slides(str(slides), SUFFIXES)
        specs = [replace(spec, mpp=mpp) if spec.name == "u" else spec for spec in specs]
        manifest = prepare_folder(slides, tmp_path / "data", specs=specs, repack=True)
        assert verify(manifest) == []
        scales[mpp] = {
            meta.region_px0 for s, meta, _ in samples_of(manifest) if meta.slide == "u" and s.magnification == 20
        }
    assert scales == {0.5: {16}, 0.25: {32}}


def test_a_scale_for_slides_without_one_reads_these_alone(tiny_slide, slides, tmp_path, monkeypatch):
    """What the message of a slide without a scale advises is taken by the folder that it came from."""
    tiny_slide("u", mpp=None, seed=5, width=400, height=360)
    data = tmp_path / "data"
    first = prepare_folder(slides, data)
    assert "slide.mpp=0.5" in {line["slide"]: line["reason"] for line in first.slides}["u"]
    before = hashes(data)
    done, original = [], work.prepare_slide
    monkeypatch.setattr("data_prep.pipeline.prepare_slide", lambda job: done.append(job.spec.name) or original(job))
    manifest = prepare_folder(slides, data, mpp=0.5)
    assert done == ["u"]
    assert {name: hashes(data)[name] for name in before} == before
    assert verify(manifest) == []
    assert {line["slide"]: line["status"] for line in manifest.slides}["u"] == "done"


def test_a_given_scale_that_is_not_the_files_is_said(slides, tmp_path, capsys):
    specs, _ = find_slides(str(slides), SUFFIXES)
    specs = [replace(spec, mpp=0.4 if spec.name == "a" else 0.51) for spec in specs]
    prepare_folder(slides, tmp_path / "data", specs=specs)
    said = capsys.readouterr()
    assert "warning: a: mpp 0.4 as given, its file says 0.5" in said.out + said.err
    assert "warning: b" not in said.out + said.err


def test_an_added_slide_is_the_only_one_that_is_done(slides, tiny_slide, tmp_path, monkeypatch):
    prepare_folder(slides, tmp_path / "data")
    tiny_slide("d", seed=9)
    done = []
    original = work.prepare_slide

    def counted(job):
        done.append(job.spec.name)
        return original(job)

    monkeypatch.setattr("data_prep.pipeline.prepare_slide", counted)
    manifest = prepare_folder(slides, tmp_path / "data")
    assert done == ["d"]
    assert verify(manifest) == []
    assert {line["slide"] for line in manifest.slides} == {"a", "b", "c", "d"}


def test_added_slides_make_shards_of_their_own_and_leave_the_others_alone(slides, tiny_slide, tmp_path, capsys):
    data = tmp_path / "data"
    first = prepare_folder(slides, data)
    before = hashes(data)
    written = {name: (data / name).stat().st_mtime_ns for name in before}
    for number, name in enumerate(("d", "e", "f", "g")):
        tiny_slide(name, seed=10 + number, width=400, height=360)
    manifest = prepare_folder(slides, data)
    assert verify(manifest) == []
    after = hashes(data)
    assert {name: after[name] for name in before} == before
    assert {name: (data / name).stat().st_mtime_ns for name in before} == written
    assert len(after) > len(before)
    for split in ("train", "test"):
        assert set(first.patients[split]) <= set(manifest.patients[split])
    assert manifest.encoder == first.encoder  # the same standardisation, or old and new grids would not go together
    added = {meta.slide for shard, meta, _ in samples_of(manifest) if f"{shard.path}.image.tar" not in before}
    assert added == {"d", "e", "f", "g"}
    assert manifest.counts["train"]["20x"] > first.counts["train"]["20x"]
    capsys.readouterr()
    prepare_folder(slides, data)
    assert "nothing to do" in capsys.readouterr().out
    whole = prepare_folder(slides, tmp_path / "at once")
    labels = manifest.ladder.labels
    totals = [{k: sum(m.counts[s].get(k, 0) for s in m.counts) for k in labels} for m in (manifest, whole)]
    assert totals[0] == totals[1]


def images_of(data):
    return sorted(path.parent.name for path in data.glob("slides/*/images.bin"))


def test_dropped_images_are_missed_by_nobody(slides, tiny_slide, tmp_path, capsys):
    """Not by the shards that are there, nor by slides that are added; if all is made anew, slides are read again."""
    data, plain = tmp_path / "data", tmp_path / "plain"
    manifest = prepare_folder(slides, data)
    prepare_folder(slides, plain)
    before = hashes(data)
    assert images_of(data) == ["a", "b", "c"]
    prepare_folder(slides, data, drop_images=True)
    assert images_of(data) == []
    assert hashes(data) == before
    assert verify(manifest) == []
    tiny_slide("d", seed=9)
    capsys.readouterr()
    prepare_folder(slides, data)
    assert "read again" not in capsys.readouterr().out
    assert {name: hashes(data)[name] for name in before} == before
    assert images_of(data) == ["d"]
    prepare_folder(slides, plain)
    (slides / "a.tif").unlink()
    manifest = prepare_folder(slides, data, drop_images=True, repack=True)
    said = capsys.readouterr().out
    assert "read again for shards to be written, as their images were dropped: 2 slides" in said  # d's are there
    assert images_of(data) == []
    assert verify(manifest) == []
    prepare_folder(slides, plain, repack=True)
    assert hashes(data) == hashes(plain)


def test_shards_stay_where_a_slide_that_they_would_be_made_of_is_gone(slides, tmp_path):
    data = tmp_path / "data"
    specs, _ = find_slides(str(slides), SUFFIXES)
    prepare_folder(slides, data, specs=specs, drop_images=True)
    before = hashes(data)
    (slides / "b.tif").unlink()
    prepare_folder(slides, data, specs=specs)  # nothing is to do
    with pytest.raises(DataError, match=r"b\.tif: not there.*put the slide back"):
        prepare_folder(slides, data, specs=[replace(spec, labels={"grade": 3}) for spec in specs], repack=True)
    assert hashes(data) == before
    assert verify(Manifest.load(data)) == []


def test_shards_stay_where_nothing_would_be_left(slides, tmp_path):
    """The reason is said before anything is taken away."""
    data = tmp_path / "data"
    manifest = prepare_folder(slides, data, min_samples={"train": 100, "test": 100})
    (slides / "a.tif").unlink()
    (slides / "b.tif").unlink()
    with pytest.raises(DataError, match="no magnification has enough samples"):
        prepare_folder(slides, data, min_samples={"train": 100, "test": 100}, repack=True)
    assert verify(manifest) == []


def test_another_configuration_in_the_folder_is_refused_with_the_keys(slides, tmp_path):
    prepare_folder(slides, tmp_path / "data")
    with pytest.raises(ConfigError, match=r"ladder\.patch_px: 16 there, 32 now") as error:
        prepare_folder(slides, tmp_path / "data", patch_px=32, seed=5)
    assert "seed: 0 there, 5 now" in str(error.value)
