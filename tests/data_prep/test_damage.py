"""Files of a preparation that are damaged, lost or not ours, as fuzzing found them: named, and nothing else goes."""

import json

import numpy as np
import pytest

from data_prep import repair
from data_prep.columns.grid import replace_grids
from data_prep.execution.serial import SerialExecutor
from data_prep.export.features import export_features
from data_prep.pack.exchange import finish_exchange
from data_prep.report import verification
from data_prep.report.estimate import print_estimate
from data_prep.report.verification import verify
from data_prep.slides.flat import FlatReader
from data_prep.slides.table import find_slides
from data_prep.work.store import SlideStore
from tests.data_prep.columns.test_grid import MEAN
from tests.helpers.prepare import hashes, prepare_folder, tiny_preparation
from tests.helpers.tiny_slides import SUFFIXES, tissue_settings
from zoomldm import files
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, DataError, UserError
from zoomldm.files import remove_tree


@pytest.fixture
def data(slides, tmp_path):
    """Return the folder of three slides in shards."""
    prepare_folder(slides, tmp_path / "data")
    return tmp_path / "data"


def rewrite(path, **values):
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


@pytest.mark.parametrize("damage", ["away", "cut", "a folder", "another type"])
def test_without_its_plan_no_shard_is_lost_from_the_manifest(slides, tiny_slide, data, damage):
    """Two batches would pass for one, of which the shards of the first were taken and those of the second forgotten."""
    tiny_slide("d", seed=9, width=400, height=360)
    prepare_folder(slides, data)
    before, path = hashes(data), data / "shards" / "plan.json"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "another type":
        rewrite(path, batches=[["a"], 5])
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    with pytest.raises(DataError, match=r"plan\.json: cannot be read .*delete .*shards"):
        prepare_folder(slides, data, repack=True)
    assert hashes(data) == before


def test_the_shards_of_a_lost_plan_are_made_again_where_they_are_deleted(slides, data):
    before = hashes(data)
    remove_tree(data / "shards")
    manifest = prepare_folder(slides, data)
    assert hashes(data) == before
    assert verify(manifest) == []


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_settings_that_cannot_be_read_are_named(slides, data, content):
    (data / "slides" / "settings.json").write_bytes(content)
    with pytest.raises(DataError, match=r"settings\.json: cannot be read"):
        prepare_folder(slides, data)


def test_a_folder_where_the_manifest_belongs(slides, data):
    (data / "manifest.json").unlink()
    (data / "manifest.json").mkdir()
    with pytest.raises(UserError, match=r"manifest\.json: .*a folder or a link lies where"):
        prepare_folder(slides, data)


def test_a_folder_where_rows_belong_is_named_and_the_exchange_goes_on_without_it(slides, data):
    (data / "slides" / "b" / "rows.npy").unlink()
    (data / "slides" / "b" / "rows.npy").mkdir()
    preparation = tiny_preparation(slides, data, encoder=MEAN)
    with pytest.raises(UserError, match=r"b/rows\.npy: .*a folder or a link lies where"):
        replace_grids(preparation, SerialExecutor(), repack=True)
    (data / "slides" / "b" / "rows.npy").rmdir()
    finish_exchange(data)
    manifest = Manifest.load(data)
    assert manifest.encoder.name == "mean"
    assert verify(manifest) == []


@pytest.mark.parametrize("values", [{"pen": []}, {"counts": None}, {"size_px": [1]}, {"scale": {}}, {"tissue": "x"}])
def test_a_slide_with_a_damaged_state_is_read_again(slides, data, values):
    before = hashes(data)
    rewrite(data / "slides" / "b" / "state.json", **values)
    assert SlideStore(data, "b").state() is None
    prepare_folder(slides, data)
    assert SlideStore(data, "b").done()
    assert hashes(data) == before


def test_a_slide_whose_work_is_lost_and_that_is_gone_changes_no_shard(slides, data):
    before = hashes(data)
    (data / "slides" / "b" / "state.json").write_text("{")
    (slides / "b.tif").write_bytes(b"junk")
    with pytest.raises(ConfigError, match="slide b: goes, as slides= does not name it or it has no work"):
        prepare_folder(slides, data)
    assert hashes(data) == before


def test_rows_that_are_not_the_slides_are_named(slides, data):
    np.save(data / "slides" / "b" / "rows.npy", np.zeros((7, 1, 2), np.float32))
    with pytest.raises(DataError, match=r"slides/b: .*damaged .*rows\.npy has the shape \(7, 1, 2\)"):
        export_features(tiny_preparation(slides, data))


def test_a_shards_record_of_other_samples_is_written_again(slides, data):
    manifest = Manifest.load(data)
    before, record = hashes(data), data / f"{manifest.shards[0].path}.json"
    rewrite(record, num_samples=3)
    (data / "manifest.json").unlink()
    assert prepare_folder(slides, data).counts == manifest.counts
    assert json.loads(record.read_bytes())["num_samples"] == manifest.shards[0].num_samples
    assert hashes(data) == before


def test_grids_are_replaced_where_a_shards_record_is_lost(slides, data):
    (data / f"{Manifest.load(data).shards[0].path}.json").unlink()
    replace_grids(tiny_preparation(slides, data, encoder=MEAN), SerialExecutor(), repack=True)
    assert verify(Manifest.load(data)) == []


@pytest.mark.parametrize("kind", ["folder", "broken link", "link to itself"])
def test_drawn_regions_that_cannot_be_read_fail_their_slide_alone(slides, tmp_path, kind, capsys):
    """A link that leads nowhere is not the same as no regions, which would make the whole slide count."""
    drawn = tmp_path / "drawn" / "b.geojson"
    drawn.parent.mkdir()
    if kind == "folder":
        drawn.mkdir()
    else:
        drawn.symlink_to("nowhere" if kind == "broken link" else drawn.name)
    told = {"tissue": tissue_settings(regions=str(drawn.parent), min_object_um2=100.0, max_hole_um2=100.0)}
    manifest = prepare_folder(slides, tmp_path / "data", **told)
    failed = [line for line in manifest.slides if line["status"] == "failed"]
    assert [line["slide"] for line in failed] == ["b"]
    assert "b.geojson" in failed[0]["reason"]
    print_estimate(tiny_preparation(slides, tmp_path / "data", **told), SerialExecutor())
    assert "b.geojson" in capsys.readouterr().out


def test_a_plan_goes_on_past_a_slide_over_which_a_reader_stumbles(slides, tmp_path, monkeypatch, capsys):
    (slides / "n.png").write_bytes(b"")

    def stumble(self, path):
        raise KeyError("no such tag")

    monkeypatch.setattr(FlatReader, "__init__", stumble)
    preparation = tiny_preparation(slides / "n.png", tmp_path / "data")
    (slides / "n.png").write_bytes(b"x" * 99)
    print_estimate(preparation, SerialExecutor())
    assert "n.png: cannot be opened (KeyError: 'no such tag')" in capsys.readouterr().out


def test_a_tar_that_cannot_be_read_is_made_again(slides, data, monkeypatch):
    before = hashes(data)
    tar = data / f"{Manifest.load(data).shards[0].path}.grid.tar"
    tar.write_bytes(b"x" * tar.stat().st_size)
    original = files.sha256_of

    def refused(path):
        if path == tar and path.read_bytes()[:1] == b"x":
            raise PermissionError(13, "Permission denied")
        return original(path)

    for module in (verification, repair):
        monkeypatch.setattr(module, "sha256_of", refused)
    manifest = Manifest.load(data)
    assert any(".grid.tar: cannot be read (Permission denied)" in fault for fault in verify(manifest))
    repair.repair(tiny_preparation(slides, data), manifest)
    assert verify(manifest) == []
    assert hashes(data) == before


def test_the_page_does_without_a_picture_that_cannot_be_read(slides, data):
    picture = data / "slides" / "b" / "qc.jpg"
    picture.unlink()
    picture.mkdir()
    (data / "qc" / "index.html").unlink()
    prepare_folder(slides, data)
    assert (data / "qc" / "index.html").is_file()


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_exclusions_that_cannot_be_read_are_not_taken_for_none(data, content):
    path = data / "exclude.txt"
    path.symlink_to("nowhere") if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"exclude\.txt: cannot be read"):
        Manifest.load(data).excluded()


def test_names_that_are_none_of_files(slides, tmp_path, capsys):
    table = tmp_path / "slides.csv"
    table.write_text(f"path,slide\n{slides}/a.tif,a\0b\n{slides}/b.tif,{'b' * 300}\n")
    specs, faults = find_slides(str(table), SUFFIXES)
    assert [fault.reason for fault in faults] == [
        f"{table}, line 2: slide 'a\\x00b': expected a name without control characters"
    ]
    preparation = tiny_preparation(slides, tmp_path / "data", specs=specs)
    print_estimate(preparation, SerialExecutor())
    assert "1 slide: about" in capsys.readouterr().out
    assert len(list((tmp_path / "data" / "plan").glob("b*.geojson"))) == 1


def test_verify_goes_on_past_an_index_that_is_none_and_a_tar_that_is_a_folder(data):
    manifest = Manifest.load(data)
    index, tar = (data / f"{manifest.shards[0].path}.{name}" for name in ("grid.index.npy", "image.tar"))
    content = index.read_bytes()
    index.write_bytes(content[:20] + bytes(40) + content[60:])
    tar.unlink()
    tar.symlink_to(tar.name)
    faults = verify(manifest)
    assert any("grid.index.npy: missing or unreadable" in fault for fault in faults)
    assert any("image.tar: missing" in fault for fault in faults)
