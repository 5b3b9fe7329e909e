"""Files are whole or absent; progress is shown where there is something to do."""

import errno
import hashlib

import pytest

from zoomldm import files
from zoomldm.errors import UserError
from zoomldm.files import (
    open_atomically,
    progress,
    raise_if_disk_fault,
    remove_temporaries,
    remove_tree,
    sha256_of,
    write_atomically,
)


def test_a_whole_file_takes_its_name(tmp_path):
    write_atomically(tmp_path / "new" / "a.txt", "text")
    assert (tmp_path / "new" / "a.txt").read_text() == "text"
    assert sha256_of(tmp_path / "new" / "a.txt") == hashlib.sha256(b"text").hexdigest()


def test_a_broken_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), open_atomically(path) as stream:
        stream.write(b"half")
        raise RuntimeError("in the middle")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_is_a_message(tmp_path):
    with pytest.raises(UserError, match="disk is full"), open_atomically(tmp_path / "a") as stream:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_other_faults_pass_unchanged(tmp_path):
    raise_if_disk_fault(OSError(errno.EIO, "bad disk"), tmp_path)  # returns
    with pytest.raises(UserError, match="cannot be written"):
        raise_if_disk_fault(PermissionError(errno.EACCES, "no"), tmp_path)


@pytest.mark.parametrize(("total", "shows"), [(0, False), (2, True)])
def test_nothing_to_do_shows_no_bar(capsys, total, shows):
    for _ in progress(range(total), total=total, label="slides", unit="slide"):
        pass
    assert ("slides" in capsys.readouterr().err) == shows


def test_a_file_is_flushed_before_it_has_its_name_and_its_folder_afterwards(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(files, "before_step", lambda kind, path: steps.append((kind, path.name)))
    write_atomically(tmp_path / "a.txt", "text")
    assert [kind for kind, _ in steps] == ["fsync", "rename", "fsync"]
    assert [name for _, name in steps[1:]] == ["a.txt", tmp_path.name]


def test_a_tree_is_removed_and_what_a_link_in_it_leads_to_stays(tmp_path):
    tree, other = tmp_path / "tree", tmp_path / "other"
    (tree / "below").mkdir(parents=True)
    other.mkdir()
    for path in (tree / "below" / "file", other / "file"):
        path.touch()
    (tree / "folder").symlink_to(other)
    (tree / "lost").symlink_to(tmp_path / "nowhere")
    remove_tree(tree)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["other", "other/file"]
    remove_tree(tree)  # nothing there: nothing to do


def test_what_killed_processes_left_of_a_write_goes(tmp_path):
    for name in (".a.txt.elsewhere-1.tmp", "a.txt", ".hidden"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.txt"]
