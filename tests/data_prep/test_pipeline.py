"""Slides to shards on tiny slides, in one process; restarts and other faults."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
from omegaconf import OmegaConf

from data_prep.execution.local import LocalExecutor, SerialExecutor
from data_prep.pack.shard_plan import read_plan
from data_prep.pipeline import parse_part, prepare, run
from data_prep.report.verification import verify
from data_prep.slides.table import find_slides
from data_prep.work import prepare_slide as work
from tests.helpers.tiny_slides import SUFFIXES, tiny_settings
from zoomldm.cli import compose_jobs
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import SampleMeta, decode_grid, decode_image
from zoomldm.data.shards import ShardReader, column_path, read_keys
from zoomldm.errors import ConfigError, DataError
from zoomldm.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]


def prepare_folder(folder, root, *, executor=None, part=None, drop_images=False, specs=None, **values):
    settings, faults = tiny_settings(**values), []
    if specs is None:
        specs, faults = find_slides(str(folder), SUFFIXES, settings.mpp)
    return run(
        root,
        specs=specs,
        faults=faults,
        settings=settings,
        config={},
        executor=executor or SerialExecutor(),
        part=part,
        drop_images=drop_images,
    )


def samples_of(manifest, split=None):
    """Yield (ShardInfo, meta, {column: fields}) of every sample."""
    for shard in manifest.shards:
        if split in (None, shard.split):
            columns = ["image", "grid", "meta"]
            reader = ShardReader(manifest.root, shard.path, columns, image_format=manifest.image_format)
            for position in range(len(reader)):
                columns = reader.read(position)
                yield shard, SampleMeta.decode(columns["meta"]["json"]), columns


def hashes(root):
    return {str(p.relative_to(root)): sha256_of(p) for p in sorted((root / "shards").rglob("*.tar"))}


@pytest.fixture
def slides(tiny_slide):
    for number, name in enumerate(("a", "b", "c")):
        path = tiny_slide(name, seed=number, width=400, height=360)
    return path.parent


def test_a_patch_is_what_openslide_gives_for_its_place(tiny_slide, tmp_path):
    """Region, coordinates and rounding in one: level-0 pixels of the sample, averaged, are the patch."""
    tiny_slide("a", mpp=0.25, width=701, height=605)
    tiny_slide("b", mpp=0.25, width=540, height=512, seed=1)
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data")
    checked = set()
    for _, meta, columns in samples_of(manifest):
        with openslide.OpenSlide(tmp_path / "slides" / f"{meta.slide}.tif") as slide:
            size = (meta.region_px0, meta.region_px0)
            width, height = slide.dimensions
            if meta.x_px0 + size[0] > width or meta.y_px0 + size[1] > height:
                continue
            region = np.asarray(slide.read_region((meta.x_px0, meta.y_px0), 0, size).convert("RGB"), np.int64)
        box = meta.region_px0 // 16
        sums = region.reshape(16, box, 16, box, 3).sum((1, 3))
        assert np.array_equal(decode_image(columns["image"]["png"]), (2 * sums + box * box) // (2 * box * box))
        checked.add(meta.magnification)
    assert checked == {20.0, 10.0, 5.0, 2.5}


def test_grids_hold_the_embeddings_of_the_tiles_they_cover(slides, tmp_path):
    """A low magnification's grid cell equals the 20x sample's grid at that place; other cells are the slide's glass."""
    manifest = prepare_folder(slides, tmp_path / "data")
    tiles, compared, glass = {}, 0, {}
    for shard, meta, columns in samples_of(manifest):
        if shard.magnification == 20:
            tiles[meta.slide, meta.x_px0, meta.y_px0] = decode_grid(columns["grid"])[0, 0]
    for shard, meta, columns in samples_of(manifest):
        if shard.magnification < 20:
            grid = decode_grid(columns["grid"])
            assert grid.shape == (20 / shard.magnification,) * 2 + (manifest.encoder.dim,)
            for (row, column), _ in np.ndenumerate(grid[..., 0]):
                place = (meta.slide, meta.x_px0 + 16 * column, meta.y_px0 + 16 * row)
                if place in tiles:
                    assert np.array_equal(grid[row, column], tiles[place])
                    compared += 1
            cells = np.load(__import__("io").BytesIO(columns["grid"]["cells.npy"]))
            if (cells == 0).any():
                row = grid[cells == 0][0]
                assert np.array_equal(glass.setdefault(meta.slide, row), row)
    assert compared > 300


def test_embeddings_are_standardised_on_train(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data", min_tissue=0.05)
    statistics = manifest.encoder.statistics
    assert len(statistics["mean"]) == manifest.encoder.dim
    rows = [decode_grid(c["grid"])[0, 0] for s, _, c in samples_of(manifest, "train") if s.magnification == 20]
    rows = np.array(rows, np.float64)
    assert abs(len(rows) - statistics["num_tiles"]) < 0.3 * len(rows)
    assert np.abs(rows.mean(0)).max() < 0.5
    varied = np.array(statistics["std"]) > 2e-4
    assert varied.sum() > 15
    assert np.abs(rows.std(0)[varied] - 1).max() < 0.5


def test_counts_splits_and_columns_agree(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data", stride=0.5, shard_samples=100)
    assert verify(manifest) == []
    assert Manifest.load(tmp_path / "data") == manifest
    assert sorted(manifest.patients["train"] + manifest.patients["test"]) == ["a", "b", "c"]
    sizes = {}
    for shard, meta, _ in samples_of(manifest):
        assert meta.patient in manifest.patients[shard.split]
        sizes[shard.path] = shard.num_samples
    assert max(sizes.values()) <= 100
    assert len(manifest.shards_of("train", 20)) > 1
    shards = [shard.num_samples for shard in manifest.shards_of("train", 20)]
    assert max(shards) - min(shards) <= 1  # balanced


def test_the_order_of_samples_is_shuffled_across_slides(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data")
    shard = manifest.shards_of("train", 20)[0]
    keys = read_keys(column_path(manifest.root / shard.path, "meta"))
    names = [key.split("_")[0] for key in keys]
    assert names != sorted(names)


def test_one_patient_is_held_out_by_area_and_no_regions_meet(tiny_slide, tmp_path, capsys):
    tiny_slide("only", width=600, height=600)
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data", stride=0.5)
    assert manifest.held_out == "area"
    assert "one patient only" in capsys.readouterr().out
    covered = {"train": np.zeros((900, 900), bool), "test": np.zeros((900, 900), bool)}
    for shard, meta, _ in samples_of(manifest):
        box = slice(meta.y_px0, meta.y_px0 + meta.region_px0), slice(meta.x_px0, meta.x_px0 + meta.region_px0)
        covered[shard.split][box] = True
    assert covered["train"].any()
    assert covered["test"].any()
    assert not (covered["train"] & covered["test"]).any()


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


def test_what_changes_the_slides_that_are_there_makes_all_shards_anew(slides, tiny_slide, tmp_path):
    data = tmp_path / "data"
    prepare_folder(slides, data)
    tiny_slide("d", seed=9)
    prepare_folder(slides, data)
    (slides / "a.tif").unlink()
    manifest = prepare_folder(slides, data)
    assert {line["slide"] for line in manifest.slides} == {"b", "c", "d"}
    assert verify(manifest) == []
    assert read_plan(data).batches == [["b", "c", "d"]]


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
    manifest = prepare_folder(slides, data, drop_images=True)
    assert "2 slides are read again" in capsys.readouterr().out  # d's are there
    assert images_of(data) == []
    assert verify(manifest) == []
    prepare_folder(slides, plain)
    assert hashes(data) == hashes(plain)


def test_shards_stay_where_a_slide_that_they_would_be_made_of_is_gone(slides, tmp_path):
    data = tmp_path / "data"
    specs, _ = find_slides(str(slides), SUFFIXES)
    prepare_folder(slides, data, specs=specs, drop_images=True)
    before = hashes(data)
    (slides / "b.tif").unlink()
    prepare_folder(slides, data, specs=specs)  # nothing is to do
    with pytest.raises(DataError, match=r"b\.tif: not there.*put the slide back"):
        prepare_folder(slides, data, specs=[replace(spec, labels={"grade": 3}) for spec in specs])
    assert hashes(data) == before
    assert verify(Manifest.load(data)) == []


def test_shards_stay_where_nothing_would_be_left(slides, tmp_path):
    """The reason is said before anything is taken away."""
    data = tmp_path / "data"
    manifest = prepare_folder(slides, data, min_samples={"train": 100, "test": 100})
    (slides / "a.tif").unlink()
    (slides / "b.tif").unlink()
    with pytest.raises(DataError, match="no magnification has enough samples"):
        prepare_folder(slides, data, min_samples={"train": 100, "test": 100})
    assert verify(manifest) == []


def test_another_configuration_in_the_folder_is_refused_with_the_keys(slides, tmp_path):
    prepare_folder(slides, tmp_path / "data")
    with pytest.raises(ConfigError, match=r"ladder\.patch_px: 16 there, 32 now") as error:
        prepare_folder(slides, tmp_path / "data", patch_px=32, seed=5)
    assert "seed: 0 there, 5 now" in str(error.value)


def test_magnifications_with_too_little_tissue_are_dropped_with_a_line(slides, tmp_path, capsys):
    manifest = prepare_folder(slides, tmp_path / "data", min_samples={"train": 15, "test": 2})
    assert "2.5x" in manifest.dropped
    assert "dropped: too little tissue for regions of 128 px" in capsys.readouterr().out
    assert 2.5 not in manifest.magnifications
    assert not (tmp_path / "data" / "shards" / "train" / "2.5x").exists()
    assert verify(manifest) == []


def test_nothing_left_is_an_error_with_the_reasons(slides, tmp_path):
    with pytest.raises(DataError, match="no magnification has enough samples"):
        prepare_folder(slides, tmp_path / "data", min_samples={"train": 10**6, "test": 0})


def test_a_full_data_set_of_jpeg_keeps_lossless_references(slides, tmp_path):
    fractions = {"20x": 0.25, "10x": 1.0, "5x": 0.0, "2.5x": 0.5}
    manifest = prepare_folder(slides, tmp_path / "data", image_format="jpeg", reference=fractions)
    lossless = prepare_folder(slides, tmp_path / "png")
    assert verify(manifest) == []
    share = {}
    for shard in manifest.shards:
        if "reference" in shard.columns:
            keys = read_keys(column_path(manifest.root / shard.path, "reference"))
            share.setdefault(shard.magnification, []).append((len(keys), shard.num_samples))
    total = {m: sum(a for a, _ in v) / sum(b for _, b in v) for m, v in share.items()}
    assert total[10.0] == 1
    assert 5.0 not in total
    assert 0.1 < total[20.0] < 0.4
    shard = manifest.shards_of("train", 10)[0]
    from zoomldm.data.shards import ColumnReader

    reference = ColumnReader(column_path(manifest.root / shard.path, "reference"), ("png",))
    exact = {m.key: c["image"]["png"] for s, m, c in samples_of(lossless) if s.magnification == 10}
    for position in range(len(reference)):
        assert np.array_equal(decode_image(reference[position]["png"]), decode_image(exact[reference.key(position)]))


def test_every_bad_input_is_reported_with_its_reason_and_the_others_go_on(slides, tiny_slide, tmp_path):
    rng = np.random.default_rng(0)
    whole = tiny_slide("cut", width=900, height=900, jpeg=True, seed=3).read_bytes()
    (slides / "cut.tif").write_bytes(whole[: len(whole) // 3])
    (slides / "zero.svs").write_bytes(b"")
    (slides / "noise.svs").write_bytes(rng.bytes(9999))
    tiny_slide("unscaled", mpp=None)
    (slides / "sub").mkdir()
    (slides / "sub" / "a.tif").write_bytes((slides / "a.tif").read_bytes())
    (slides / "dangling.svs").symlink_to(slides / "nowhere.svs")
    manifest = prepare_folder(slides, tmp_path / "data")
    reasons = {line["slide"]: line["reason"] for line in manifest.slides if line["status"] == "failed"}
    assert set(reasons) == {"cut", "zero", "noise", "unscaled", "a", "dangling"}
    for name, part in {
        "zero": "0 bytes",
        "noise": "not a slide",
        "unscaled": "slide.mpp=0.5",
        "a": "the same slide name",
        "dangling": "cannot be read",
        "cut": "cut.tif",
    }.items():
        assert part in reasons[name]
    page = (tmp_path / "data" / "qc" / "index.html").read_text()
    for name in reasons:
        assert f"<b>{name}</b> <b class=bad>failed</b>" in page
    assert sorted(manifest.patients["train"] + manifest.patients["test"]) == ["a", "b", "c"]


def test_the_page_says_why_where_every_slide_failed(tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "empty.svs").touch()
    (slides / "noise.svs").write_bytes(b"x" * 5000)
    with pytest.raises(DataError, match="no slide could be prepared"):
        prepare_folder(slides, tmp_path / "data")
    page = (tmp_path / "data" / "qc" / "index.html").read_text()
    assert "an empty file (0 bytes)" in page
    assert "not a slide that OpenSlide knows" in page


def test_an_unreadable_file_is_reported(slides, tmp_path):
    from data_prep.slides.files import readable_stamp

    (slides / "folder.svs").mkdir()
    with pytest.raises(DataError, match="a folder, not a slide"):
        readable_stamp(slides / "folder.svs")
    if os.geteuid():
        (slides / "locked.svs").write_bytes(b"x")
        (slides / "locked.svs").chmod(0)
        with pytest.raises(DataError, match="cannot be read"):
            readable_stamp(slides / "locked.svs")


def test_a_slide_that_changes_while_it_is_read_fails_alone(slides, tmp_path, monkeypatch):
    original = work.find_tissue

    def touched(slide, *arguments):
        if slide.spec.name == "b":
            os.utime(slide.path, ns=(1, 1))
        return original(slide, *arguments)

    monkeypatch.setattr(work, "find_tissue", touched)
    manifest = prepare_folder(slides, tmp_path / "data")
    assert [s["slide"] for s in manifest.slides if "changed while it was read" in s["reason"]] == ["b"]


def test_a_full_disk_is_said_and_leaves_nothing_half_written(slides, tmp_path, monkeypatch):
    import errno

    from zoomldm.errors import UserError

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(work.np, "savez", full)
    with pytest.raises(UserError, match="the disk is full"):
        prepare_folder(slides, tmp_path / "data")
    assert [p.name for p in (tmp_path / "data" / "slides").iterdir()] == ["settings.json"]
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_a_slide_that_yields_nothing_stands_out(slides, tmp_path):
    from tests.helpers.tiny_slides import GLASS, write_slide

    glass = np.random.default_rng(0).normal(GLASS, 0.8, (400, 400, 3)).astype(np.uint8)
    write_slide(slides / "empty.tif", glass)
    manifest = prepare_folder(slides, tmp_path / "data")
    line = next(line for line in manifest.slides if line["slide"] == "empty")
    assert (line["status"], line["reason"]) == ("done", "no region has enough tissue")
    assert "<figure class=empty>" in (tmp_path / "data" / "qc" / "index.html").read_text()


def test_a_damaged_native_tile_is_skipped_counted_and_listed(tiny_slide, tmp_path):
    import tifffile

    path = tiny_slide("a", width=900, height=900, jpeg=True, seed=1, tile=128)
    tiny_slide("b", width=600, height=600, seed=2)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, size = page.dataoffsets[3 * 8 + 3], page.databytecounts[3 * 8 + 3]
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * size)
    manifest = prepare_folder(path.parent, tmp_path / "data")
    line = next(line for line in manifest.slides if line["slide"] == "a")
    assert (line["status"], line["unreadable_tiles"]) == ("done", 64)
    assert line["regions_skipped"] > 64
    state = json.loads((tmp_path / "data" / "slides" / "a" / "state.json").read_bytes())
    assert [384, 384] in state["unreadable_px0"]
    for _, meta, _ in samples_of(manifest):
        if meta.slide == "a":
            assert not (
                meta.x_px0 < 512
                and meta.y_px0 < 512
                and meta.x_px0 + meta.region_px0 > 384
                and meta.y_px0 + meta.region_px0 > 384
            )


def config_of(root, slides, **values):
    cfg = compose_jobs("prepare", ["data=demo"])[0]
    OmegaConf.set_struct(cfg, False)
    cfg.data.update(root=str(root), demo_slides=None, min_samples={"train": 1, "test": 0})
    cfg.update(slides=str(slides) if slides else None, executor="serial", **values)
    return cfg


def test_the_demos_configuration_prepares_a_folder(slides, tmp_path):
    manifest = prepare(config_of(tmp_path / "data", slides))
    assert manifest.ladder.patch_px == 32
    assert 20.0 in manifest.magnifications


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.min_tissue": {"3": 0.5}}, "data.min_tissue: magnification=3"),
        ({"data.min_tissue": 2}, "expected a number from 0 to 1"),
        ({"data.stride": {"20": 0}}, r"data\.stride\.20x=0"),
        ({"data.tissue.min_tiles": 1}, "did you mean 'min_tile'"),
        ({"tissue.chroma_flor": 1}, "did you mean 'chroma_floor'"),
        ({"data.image_format": "gif"}, "expected png or jpeg"),
        ({"part": "17/16"}, "expected a share such as 3/16"),
        ({"executor": "dask"}, "executor=dask"),
        ({"slides": None}, "which slides"),
    ],
)
def test_senseless_settings_are_refused_with_their_key(slides, tmp_path, change, message):
    cfg = config_of(tmp_path / "data", slides)
    for key, value in change.items():
        OmegaConf.update(cfg, key, value, force_add=True, merge=False)
    with pytest.raises(ConfigError, match=message):
        prepare(cfg)
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


def test_parts_are_a_partition():
    parts = [parse_part(f"{n}/7") for n in range(1, 8)]
    shares = [i for i in range(50) for number, total in parts if i % total == number - 1]
    assert shares == list(range(50))


def test_settings_are_plain_data():
    settings = tiny_settings()
    assert json.loads(json.dumps(settings.to_dict()))["ladder"]["patch_px"] == 16
    assert replace(settings, seed=1) != settings
