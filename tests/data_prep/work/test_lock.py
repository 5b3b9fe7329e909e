"""One process has a lock at a time, and a dead one has none."""

import errno
import os
import signal
import time
from functools import partial

import filelock
import pytest

from data_prep.work import lock
from data_prep.work.lock import locked
from tests.helpers.stops import forked


def hold(path, seconds):
    with locked(path, "tests"):
        path.with_suffix(".held").touch()
        time.sleep(seconds)


def held_by_another(path, seconds):
    pid = forked(partial(hold, path, seconds))
    while not path.with_suffix(".held").exists():
        time.sleep(0.01)
    return pid


def test_the_second_waits_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "SAID_AFTER_S", 0.1)
    path = tmp_path / "locks" / "a.lock"
    path.parent.mkdir()
    pid = held_by_another(path, 0.6)
    began = time.monotonic()
    with locked(path, "tests"):
        assert time.monotonic() - began > 0.3
    assert f"waiting: another process tests; if there is none, delete {path}" in capsys.readouterr().out
    os.waitpid(pid, 0)


def no_flock(*arguments, **options):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("has_flock", [True, False])
def test_a_killed_process_holds_nothing(tmp_path, monkeypatch, has_flock):
    if not has_flock:
        monkeypatch.setattr(filelock.FileLock, "acquire", no_flock)
    path = tmp_path / "a.lock"
    pid = held_by_another(path, 60)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (tmp_path / "a.lock.soft").exists() is not has_flock
    began = time.monotonic()
    with locked(path, "tests"):
        assert time.monotonic() - began < 20
