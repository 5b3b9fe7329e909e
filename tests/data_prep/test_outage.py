"""Storage that goes away in the middle of a run is not the slides' fault."""

import errno
from dataclasses import replace

import pytest

from data_prep.work import prepare_slide as work
from data_prep.work.store import SlideStore
from tests.helpers.prepare import hashes, prepare_folder
from zoomldm.errors import DataError, UserError


def fails_from(monkeypatch, number, code=errno.EIO):
    """Let every slide from the given one on fail with an error of the storage."""
    original, calls = work._prepare, []

    def breaks(job, *rest):
        calls.append(job.spec.name)
        if len(calls) >= number:
            raise OSError(code, "it is gone", str(job.spec.path))
        return original(job, *rest)

    monkeypatch.setattr(work, "_prepare", breaks)
    return calls


@pytest.fixture
def many(slides, tiny_slide):
    for number, name in enumerate("defg"):
        tiny_slide(name, seed=20 + number, width=300, height=260)
    return slides


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_three_in_a_row_end_the_run_and_the_next_goes_on_to_the_same_bytes(many, tmp_path, monkeypatch, code):
    data = tmp_path / "data"
    calls = fails_from(monkeypatch, 3, code)
    with pytest.raises(UserError, match=r"3 slides in a row could not be read.*2 of 7 slides.*same command again"):
        prepare_folder(many, data)
    assert len(calls) == 5
    assert not (data / "manifest.json").exists()
    if code != errno.EIO:
        return
    monkeypatch.undo()
    prepare_folder(many, data)
    prepare_folder(many, tmp_path / "undisturbed")
    assert hashes(data) == hashes(tmp_path / "undisturbed")


def test_too_many_failed_slides_are_not_packed_unasked(slides, tmp_path):
    data = tmp_path / "data"
    (slides / "d.tif").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"1 of 4 slides failed, more than max_failed=0\.05.*max_failed=1"):
        prepare_folder(slides, data, max_failed=0.05)
    assert not (data / "manifest.json").exists()
    assert prepare_folder(slides, data, max_failed=0.25) is not None


def test_an_outage_takes_no_good_work_away(slides, tmp_path, monkeypatch):
    data = tmp_path / "data"
    prepare_folder(slides, data, drop_images=True)
    store = SlideStore(data, "a")
    before, rows = store.done(), store.rows_path.read_bytes()
    fails_from(monkeypatch, 1)
    with pytest.raises(UserError, match="3 slides in a row"):
        prepare_folder(slides, data, test_fraction=0.6, repack=True)
    assert "it is gone" in store.done().reread_failed
    assert replace(store.done(), reread_failed="") == before
    assert store.rows_path.read_bytes() == rows
