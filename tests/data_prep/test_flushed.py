"""What is called done is on the disk: every file as it is at the end, and every name in its folder."""

import os
import stat
from pathlib import Path

import pytest

from tests.data_prep.columns.test_grid import add
from tests.data_prep.pack.test_repack import with_latents
from tests.helpers.prepare import prepare_folder


@pytest.fixture
def flushed(monkeypatch):
    """Return size and time of each file, and time of each folder, when it was flushed last, by inode."""
    found, original = {}, os.fsync

    def noting(descriptor):
        original(descriptor)
        found[os.fstat(descriptor).st_ino] = facts_of(os.fstat(descriptor))

    monkeypatch.setattr(os, "fsync", noting)
    return found


def facts_of(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_mtime_ns, 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size


def not_flushed(root: Path, flushed: dict) -> list[str]:
    paths = [p for name in ("shards", "slides") for p in (root / name).rglob("*") if ".locks" not in p.parts]
    paths += [root / "shards", root / "manifest.json"]
    return [str(p.relative_to(root)) for p in paths if flushed.get(p.stat().st_ino) != facts_of(p.stat())]


def test_what_is_called_done_is_on_the_disk(slides, tmp_path, flushed):
    root = tmp_path / "data"
    manifest = prepare_folder(slides, root)
    assert not_flushed(root, flushed) == []
    with_latents(manifest)
    assert not_flushed(root, flushed) == []
    prepare_folder(slides, root, test_fraction=0.6, repack=True)
    assert not_flushed(root, flushed) == []
    add(slides, root, test_fraction=0.6)
    assert not_flushed(root, flushed) == []
