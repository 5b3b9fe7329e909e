"""Finished shards are never lost: who must agree before they go, and what is there when a command is cut off."""

import hashlib
import json
from dataclasses import replace

import pytest

from data_prep.columns.latent import LatentMaker, add_latents
from data_prep.columns.variants import add_variants
from data_prep.pack import pack as packing
from data_prep.pack.plan_file import read_plan
from data_prep.report.verification import verify
from data_prep.slides.table import find_slides
from data_prep.work.folder import read_settings
from tests.data_prep.columns.test_latent import encode
from tests.helpers.prepare import hashes, prepare_folder, tiny_preparation
from tests.helpers.tiny_slides import SUFFIXES
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError


def with_latents(manifest):
    def tiny(images):
        return encode(images[:, :8, :8])

    return add_latents(manifest, LatentMaker(encode=tiny, sha256="abc", source="run", is_original=False))


def test_slides_that_are_not_named_stay_and_new_ones_are_added(slides, tiny_slide, tmp_path, capsys):
    """The natural way to add two slides: slides=/new_batch."""
    data = tmp_path / "data"
    with_latents(prepare_folder(slides, data))
    before = hashes(data)
    for number, name in enumerate(("d", "e")):
        tiny_slide(name, seed=10 + number, folder="new", width=400, height=360)
    manifest = prepare_folder(tmp_path / "new", data)
    said = capsys.readouterr().out
    assert "not in slides=, but in the shards that are there, where they stay: 3 slides" in said
    assert "there were latents by run, and new shards have none yet: run python data_prep/latents.py data=tiny" in said
    assert {line["slide"] for line in manifest.slides} == {"a", "b", "c", "d", "e"}
    assert {name: h for name, h in hashes(data).items() if name in before} == before
    assert any(name.endswith("latent.tar") for name in before)
    capsys.readouterr()
    manifest = with_latents(manifest)
    assert verify(manifest) == []
    new = sum(s.num_samples for s in manifest.shards if f"{s.path}.latent.tar" not in before)
    stayed = sum(name.endswith("latent.tar") for name in before)
    assert f"{new:,} of them new; {stayed} tars stayed" in capsys.readouterr().out
    capsys.readouterr()
    prepare_folder(tmp_path / "new", data)
    assert "nothing to do" in capsys.readouterr().out


def test_turned_latents_stay_where_slides_are_added(slides, tiny_slide, tmp_path):
    data = tmp_path / "data"

    def with_turned(manifest):
        def tiny(images):
            return encode(images[:, :8, :8])

        return add_variants(with_latents(manifest), tiny, [20.0])

    first = with_turned(prepare_folder(slides, data))
    written = {path: path.stat().st_mtime_ns for path in data.rglob("*.variants.tar")}
    tiny_slide("d", seed=9, width=400, height=360)
    added = prepare_folder(slides, data)
    assert added.columns["variants"] == first.columns["variants"]
    manifest = with_turned(added)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    training = [shard for shard in manifest.shards if shard.split == "train" and shard.magnification == 20]
    assert len(training) > len(written)
    assert all("variants" in shard.columns for shard in training)
    assert verify(manifest) == []


def test_half_a_folder_takes_nothing_away(slides, tmp_path, capsys):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    before = hashes(data)
    (slides / "a.tif").unlink()
    manifest = prepare_folder(slides, data)
    assert "nothing to do" in capsys.readouterr().out
    assert hashes(data) == before
    assert {line["slide"] for line in manifest.slides} == {"a", "b", "c"}


def test_slides_go_where_that_is_agreed(slides, tmp_path):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    (slides / "a.tif").unlink()
    manifest = prepare_folder(slides, data, repack=True)
    assert {line["slide"] for line in manifest.slides} == {"b", "c"}
    assert verify(manifest) == []
    assert read_plan(data).batches == [["b", "c"]]


def test_a_change_of_packing_is_refused_with_what_it_would_take(slides, tmp_path):
    data = tmp_path / "data"
    manifest = with_latents(prepare_folder(slides, data))
    before = hashes(data)
    tars = len(before)
    said = rf"{tars} finished tars of {tars // 4} shards \({tars // 4} of latent\), \d+\.\d MB, would be made anew"
    with pytest.raises(ConfigError, match=rf"{said}.*settings\.test_fraction: 0\.2 there, 0\.6 now.*repack=true"):
        prepare_folder(slides, data, test_fraction=0.6)
    assert hashes(data) == before
    assert verify(manifest) == []


def test_nothing_is_read_before_it_is_agreed(slides, tiny_slide, tmp_path, monkeypatch):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    tiny_slide("a", seed=7, width=400, height=360)
    monkeypatch.setattr("data_prep.pipeline.prepare_slide", lambda job: pytest.fail("read before it was agreed"))
    with pytest.raises(ConfigError, match=r"slide a: its file.*read again"):
        prepare_folder(slides, data)


def test_a_release_is_no_change(slides, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    monkeypatch.setattr(packing, "__version__", "0.2.0")
    prepare_folder(slides, data)
    assert "nothing to do" in capsys.readouterr().out


def test_a_raised_packing_version_is_asked_about(slides, tmp_path, monkeypatch):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    monkeypatch.setattr("data_prep.pack.shard_plan.PACKING_VERSION", 2)
    with pytest.raises(ConfigError, match=r"packing_version: 1 there, 2 now"):
        prepare_folder(slides, data)


def test_another_name_is_no_reason_to_pack_again(slides, tmp_path):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    before = {name: (data / name).stat().st_mtime_ns for name in hashes(data)}
    assert prepare_folder(slides, data, name="other").name == "other"
    assert {name: (data / name).stat().st_mtime_ns for name in hashes(data)} == before


def old_hash(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def as_older_versions_left_it(data, preparation):
    """Rewrite plan and settings as version 0.1.0 did, with the hashes that it made."""
    plan = json.loads((data / "shards" / "plan.json").read_bytes())
    settings = preparation.slide_settings.to_dict() | preparation.pack_settings.to_dict() | {"mpp": None}
    settings.pop("icc", None)
    states = sorted(preparation.states(), key=lambda state: state.slide)
    of = plan["of_patient"]
    lines = [[s.slide, s.patient, of[s.patient], s.file.quick_hash, {}] for s in states]
    whole = [[s.slide, s.patient, s.status, s.file.quick_hash, {}] for s in states]
    old = {
        "batches": plan["batches"],
        "facts": [old_hash(["0.1.0", settings, "patients", [x for x in lines if x[0] in b]]) for b in plan["batches"]],
        "of_patient": of,
        "statistics": plan["statistics"],
        "inputs_sha256": old_hash(["0.1.0", settings, "patients", of, whole]),
    }
    (data / "shards" / "plan.json").write_text(json.dumps(old))
    (data / "slides" / "settings.json").write_text(json.dumps(settings, default=str))
    assert read_settings(data)


def test_shards_of_older_versions_count_as_done_and_take_new_slides(slides, tiny_slide, tmp_path, capsys):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    before = hashes(data)
    as_older_versions_left_it(data, tiny_preparation(slides, data))
    prepare_folder(slides, data)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"test_fraction: 0\.2 there, 0\.6 now"):
        prepare_folder(slides, data, test_fraction=0.6)
    tiny_slide("d", seed=9, folder="new")
    manifest = prepare_folder(tmp_path / "new", data)
    assert {name: h for name, h in hashes(data).items() if name in before} == before
    assert len(manifest.slides) == 4
    assert read_plan(data).made_of is not None


def test_a_changed_slide_changes_the_shards_of_its_batch_alone(slides, tiny_slide, tmp_path):
    """The first batch's shards keep their bytes, names and latents, whichever of two batches shrinks before them."""
    data = tmp_path / "data"
    first = prepare_folder(slides, data, shard_samples=40)
    before = {shard.path for shard in first.shards}
    tiny_slide("d", seed=9, folder="new")
    with_latents(prepare_folder(tmp_path / "new", data, shard_samples=40))
    old = hashes(data)
    specs, _ = find_slides(str(tmp_path / "new"), SUFFIXES)
    graded = [replace(spec, labels={"grade": "3"}) for spec in specs]
    with pytest.raises(ConfigError, match=r"slide d: labels\.grade"):
        prepare_folder(slides, data, shard_samples=40, specs=graded)
    manifest = prepare_folder(
        slides, data, shard_samples=40, repack=True, specs=[*find_slides(str(slides), SUFFIXES)[0], *graded]
    )
    now = hashes(data)
    assert {n: h for n, h in old.items() if n.split(".image")[0].split(".grid")[0] in before}.items() <= now.items()
    kept = [name for name in now if name.endswith("latent.tar") and now[name] == old[name]]
    assert len(kept) == len(before)
    assert verify(with_latents(manifest)) == []


def test_shards_that_stay_are_numbered_anew_with_their_latents(slides, tiny_slide, tmp_path):
    data = tmp_path / "data"
    prepare_folder(slides, data, shard_samples=40)
    tiny_slide("d", seed=9, folder="new")
    with_latents(prepare_folder(tmp_path / "new", data, shard_samples=40))
    old = hashes(data)
    for number, name in enumerate("bc"):  # the first batch shrinks
        tiny_slide(name, seed=number + 20, width=260, height=240)
    manifest = prepare_folder(slides, data, shard_samples=40, repack=True, specs=all_of(slides, tmp_path / "new"))
    now = hashes(data)
    assert {h for n, h in old.items() if "latent" in n} & {h for n, h in now.items() if "latent" in n}
    assert verify(with_latents(manifest)) == []


def all_of(*folders):
    return [spec for folder in folders for spec in find_slides(str(folder), SUFFIXES)[0]]


def test_a_repack_that_is_cut_off_leaves_the_old_shards_whole(slides, tmp_path, monkeypatch):
    data = tmp_path / "data"
    manifest = prepare_folder(slides, data)
    prepare_folder(slides, tmp_path / "fresh", test_fraction=0.6)
    original, calls = packing.write_shard, []

    def breaks(job):
        calls.append(job.place)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(job)

    monkeypatch.setattr(packing, "write_shard", breaks)
    with pytest.raises(KeyboardInterrupt):
        prepare_folder(slides, data, test_fraction=0.6, repack=True)
    monkeypatch.undo()
    assert verify(Manifest.load(data)) == []
    assert Manifest.load(data) == manifest
    written = {p: p.stat().st_mtime_ns for p in (data / "shards.new").rglob("*.tar")}
    assert written
    prepare_folder(slides, data, test_fraction=0.6, repack=True)
    assert hashes(data) == hashes(tmp_path / "fresh")
    assert not (data / "shards.new").exists()
    times = {p: (data / "shards" / p.relative_to(data / "shards.new")).stat().st_mtime_ns for p in written}
    assert times == written  # what was written before is taken up
