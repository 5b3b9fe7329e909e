"""Files are whole or absent; progress is shown where there is something to do."""

import errno
import hashlib

import pytest

from zoomldm.errors import UserError
from zoomldm.files import open_atomically, progress, raise_if_disk_fault, sha256_of, write_atomically


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
