"""One process has a lock at a time, and a dead one has none."""

import errno
import os
import signal
import socket
import threading
import time
from functools import partial

import filelock
import pytest
from filelock import _identity, _soft

from data_prep.work import lock
from data_prep.work.lock import locked
from tests.helpers.prepare import hashes, prepare_folder
from tests.helpers.stops import forked
from zoomldm.errors import UserError


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


def test_waiting_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SAID_AFTER_S", 0.1)
    monkeypatch.setattr(lock, "LIMIT_S", 0.1)
    pid = held_by_another(tmp_path / "a.lock", 60)
    with pytest.raises(UserError, match=r"waited for .*another process tests; if there is none, delete .*a\.lock"):
        enter(tmp_path / "a.lock")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def enter(path):
    with locked(path, "tests"):
        pass


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


# --- several hosts, whose file system has no lock of the kernel's


def on_host(name):
    """Make this process one of another host, as far as locks and temporary names can tell."""
    filelock.FileLock.acquire = no_flock
    for module in (_identity, _soft):
        module.host_name = lambda: name
    socket.gethostname = lambda: name


def ended(pid, limit_s=60):
    """Return how a process ended, and end it where it does not by itself."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def hold_on(name, path, seconds):
    on_host(name)
    hold(path, seconds)


def test_a_lock_of_another_host_is_waited_for_and_named(tmp_path, monkeypatch, capsys):
    """Whether the process on that host lives cannot be seen from here."""
    monkeypatch.setattr(filelock.FileLock, "acquire", no_flock)
    monkeypatch.setattr(lock, "SAID_AFTER_S", 0.2)
    path = tmp_path / "a.lock"
    pid = forked(partial(hold_on, "node7", path, 0.8))
    while not path.with_suffix(".held").exists():
        time.sleep(0.01)
    began = time.monotonic()
    enter(path)
    assert time.monotonic() - began > 0.4
    said = capsys.readouterr().out
    assert f"another process tests (process {pid} on node7); if there is none, delete {path}.soft" in said
    os.waitpid(pid, 0)


def test_a_lock_that_a_dead_host_has_left_is_a_persons_to_delete(tmp_path, monkeypatch):
    monkeypatch.setattr(filelock.FileLock, "acquire", no_flock)
    for limit in ("SAID_AFTER_S", "LIMIT_S"):
        monkeypatch.setattr(lock, limit, 0.3)
    path = tmp_path / "a.lock"
    pid = forked(partial(hold_on, "node7", path, 60))
    while not path.with_suffix(".held").exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(UserError, match=rf"process {pid} on node7\); if there is none, delete .*a\.lock\.soft"):
        enter(path)
    (tmp_path / "a.lock.soft").unlink()
    enter(path)


def test_a_lock_file_that_was_left_empty_is_taken_away(tmp_path, monkeypatch, capsys):
    """Its process was killed between making it and writing who it is."""
    monkeypatch.setattr(filelock.FileLock, "acquire", no_flock)
    monkeypatch.setattr(lock, "SAID_AFTER_S", 0.2)
    (tmp_path / "a.lock.soft").touch()
    enter(tmp_path / "a.lock")
    assert "a.lock.soft: left empty by a process that was killed" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == []


def test_an_empty_lock_file_that_has_just_been_made_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(filelock.FileLock, "acquire", no_flock)
    for limit in ("SAID_AFTER_S", "LIMIT_S"):
        monkeypatch.setattr(lock, limit, 0.3)
    marker = tmp_path / "a.lock.soft"
    marker.touch()
    another = threading.Timer(0.1, lambda: os.replace(tmp_path / "new", marker))
    (tmp_path / "new").touch()
    another.start()
    with pytest.raises(UserError, match=r"if there is none, delete .*a\.lock\.soft"):
        enter(tmp_path / "a.lock")
    another.join()
    assert marker.exists()


def test_jobs_on_two_hosts_in_one_folder_make_the_bytes_of_one(slides, tmp_path):
    """A third was killed on one of them before; the next process there takes its locks away."""
    prepare_folder(slides, tmp_path / "alone")
    data = tmp_path / "data"

    def on(name):
        on_host(name)
        prepare_folder(slides, data)

    killed = forked(partial(on, "node7"))
    deadline = time.monotonic() + 60
    marker = data / "slides" / ".locks" / "a.lock.soft"
    while not (marker.is_file() and marker.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    assert marker.is_file()
    jobs = [forked(partial(on, name)) for name in ("node7", "node8")]
    assert [ended(pid) for pid in jobs] == [0, 0]
    assert hashes(data) == hashes(tmp_path / "alone")
    assert not list(data.rglob("*.soft"))
