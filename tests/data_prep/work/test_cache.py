"""Slides on a network disk, read from a local copy."""

import errno
import os
import shutil

import pytest
from filelock import FileLock

from data_prep.columns.grid import replace_grids
from data_prep.execution.local import LocalExecutor
from data_prep.execution.serial import SerialExecutor
from data_prep.settings import CacheSettings, cache_of
from data_prep.slides.slide import Slide
from data_prep.work import cache
from data_prep.work.store import SlideStore
from tests.helpers.prepare import hashes, prepare_folder, tiny_preparation
from tests.helpers.tiny_slides import tissue_pixels
from tests.helpers.vendor_slides import write_mrxs
from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError

UNLIKE = {"elapsed_s", "cpu_s", "encode_s"}


@pytest.fixture
def slides(tiny_slide):
    folder = tiny_slide("a", width=500, height=400).parent
    write_mrxs(folder / "m.mrxs", tissue_pixels(700, 600), mpp=0.5)
    return folder


@pytest.fixture
def undisturbed(slides, tmp_path):
    prepare_folder(slides, tmp_path / "plain")
    return tmp_path / "plain"


@pytest.fixture
def opened(monkeypatch):
    """The paths that slides are opened under."""
    paths, begin = [], Slide.__init__

    def noted(self, spec, *args, **kwargs):
        paths.append(spec.path)
        begin(self, spec, *args, **kwargs)

    monkeypatch.setattr(Slide, "__init__", noted)
    return paths


def states_of(root):
    return [
        {key: value for key, value in SlideStore(root, name).done().to_dict().items() if key not in UNLIKE}
        for name in ("a", "m")
    ]


def left_in(folder):
    return [path.name for path in folder.iterdir() if path.name != ".lock"]


def cached(folder, most_gb=None):
    return {"cache": CacheSettings(folder=str(folder), most_gb=most_gb)}


@pytest.mark.parametrize("executor", [SerialExecutor(), LocalExecutor(2)], ids=["serial", "two workers"])
def test_what_comes_of_a_copy_is_the_same_to_the_bit_and_the_copy_goes(
    executor, slides, undisturbed, opened, tmp_path, capsys
):
    prepare_folder(slides, tmp_path / "data", executor=executor, **cached(tmp_path / "local"))
    assert hashes(tmp_path / "data") == hashes(undisturbed)
    assert states_of(tmp_path / "data") == states_of(undisturbed)
    assert left_in(tmp_path / "local") == []
    assert "is read where it lies" not in capsys.readouterr().out
    if isinstance(executor, SerialExecutor):
        assert [path.name for path in opened] == ["a.tif", "m.mrxs"]
        assert all(path.is_relative_to(tmp_path / "local") for path in opened)


def test_other_grids_are_made_of_copies_too(slides, undisturbed, opened, tmp_path):
    option = Option("encoder", {"_target_": "tests.helpers.prepare.MeanColour", "name": "mean"}, ("tests",))
    preparation = tiny_preparation(slides, undisturbed, encoder=option, **cached(tmp_path / "local"))
    replace_grids(preparation, SerialExecutor(), repack=True)
    assert len(opened) == 2
    assert all(path.is_relative_to(tmp_path / "local") for path in opened)
    assert left_in(tmp_path / "local") == []


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["most", "free", "while copying", "no folder", "other bytes"])
def test_without_room_a_slide_is_read_where_it_lies(fault, slides, undisturbed, opened, tmp_path, monkeypatch, capsys):
    local, most_gb = tmp_path / "local", None
    if fault == "most":
        most_gb = 1e-6
    elif fault == "free":
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    elif fault == "while copying":
        monkeypatch.setattr(cache.os, "utime", full)
    elif fault == "no folder":
        local.write_text("a file")
    else:
        monkeypatch.setattr(cache, "quick_hash", lambda path: str(path))
    prepare_folder(slides, tmp_path / "data", **cached(local, most_gb))
    assert hashes(tmp_path / "data") == hashes(undisturbed)
    assert opened == [slides / "a.tif", slides / "m.mrxs"]
    assert capsys.readouterr().out.count("is read where it lies") == 2
    assert fault == "no folder" or left_in(local) == []


def test_what_a_killed_process_left_is_removed_and_what_another_holds_is_counted(slides, tmp_path, capsys):
    local = tmp_path / "local"
    for name in ("zoomldm-1-dead-500000000", "zoomldm-2-alive-500000000"):
        (local / name / "part").mkdir(parents=True)
        (local / f"{name}.lock").touch()
    with FileLock(local / "zoomldm-2-alive-500000000.lock"):
        prepare_folder(slides, tmp_path / "data", **cached(local, 0.4))
        assert sorted(left_in(local)) == ["zoomldm-2-alive-500000000", "zoomldm-2-alive-500000000.lock"]
    assert "slide.cache_gb=0.4 has no room, 0.50 GB are taken" in capsys.readouterr().out
    prepare_folder(slides, tmp_path / "again", **cached(local, 0.4))
    assert left_in(local) == []
    assert "is read where it lies" not in capsys.readouterr().out


def test_a_slide_that_changes_while_it_is_copied_fails_and_a_damaged_one_is_named_by_its_own_path(
    slides, tmp_path, monkeypatch
):
    (slides / "noise.svs").write_bytes(b"x" * 5000)
    copy_file = cache._copy_file

    def slow(source, target):
        copy_file(source, target)
        if source.name == "a.tif":
            os.utime(source, ns=(1, 1))

    monkeypatch.setattr(cache, "_copy_file", slow)
    prepare_folder(slides, tmp_path / "data", **cached(tmp_path / "local"))
    reasons = {
        name: SlideStore(tmp_path / "data", name).state().to_dict().get("reason") for name in ("a", "noise", "m")
    }
    assert "a.tif: the file changed while it was copied" in reasons["a"]
    assert str(slides / "noise.svs") in reasons["noise"]
    assert "local" not in reasons["noise"]
    assert reasons["m"] == ""


def test_a_mount_that_is_gone_is_the_slides_fault_and_not_the_caches(slides, tmp_path, monkeypatch):
    def gone(_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(cache, "companions_of", gone)
    with pytest.raises(DataError, match="no slide could be prepared"):
        prepare_folder(slides, tmp_path / "data", **cached(tmp_path / "local"))
    assert SlideStore(tmp_path / "data", "a").state().by_storage


def test_a_size_without_a_folder_is_refused():
    assert cache_of(None, None) is None
    assert cache_of("x", 2.0).most_gb == 2.0
    with pytest.raises(ConfigError, match="no effect without slide"):
        cache_of(None, 2.0)
