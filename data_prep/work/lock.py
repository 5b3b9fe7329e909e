"""Locks between processes, on this machine or several."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from zoomldm.errors import UserError
from zoomldm.files import remove

SAID_AFTER_S, LIMIT_S = 60.0, 24 * 3600.0


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; wait for it, and say so after a minute.

    The kernel's own lock (flock) ends with its process, so that nothing stays of a killed one. Where a file system has
    none, a file with host and process stands for it, which the next process on that host takes away; of one that died
    on another host a person must say so, by deleting it. A file that stays empty for a minute is nobody's: its process
    was killed before it wrote host and process into it, which it does at once.

    work: what the holder does, in words.

    Raises:
        UserError: it was not to be had for a day.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = _acquired(FileLock(path), work)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        held = _acquired(SoftFileLock(f"{path}.soft"), work)
    try:
        yield
    finally:
        held.release()


def _acquired(lock: BaseFileLock, work: str) -> BaseFileLock:
    empty = _empty_file(lock)
    try:
        lock.acquire(timeout=SAID_AFTER_S)
    except Timeout:
        if empty is not None:
            _take_away(lock, empty)
        said = f"another process {work}{_holder(lock)}; if there is none, delete {lock.lock_file}"
        print(f"waiting: {said}", flush=True)
        try:
            lock.acquire(timeout=LIMIT_S)
        except Timeout as error:
            raise UserError(f"waited for {LIMIT_S / 3600:g} h: {said}, then run the same command again") from error
    return lock


def _empty_file(lock: BaseFileLock) -> tuple[int, int] | None:
    """Return which file stands for a lock, by inode and time, where it should name its holder and does not."""
    try:
        found = os.stat(lock.lock_file)
    except OSError:
        return None
    return (found.st_ino, found.st_ctime_ns) if isinstance(lock, SoftFileLock) and not found.st_size else None


def _take_away(lock: BaseFileLock, empty: tuple[int, int]) -> None:
    """Delete the file of a lock if it is still the same empty one; one waiting process does, the others wait on."""
    with suppress(Timeout, OSError), SoftFileLock(f"{lock.lock_file}.empty", timeout=0):
        if _empty_file(lock) == empty:
            remove(Path(lock.lock_file))
            print(f"{lock.lock_file}: left empty by a process that was killed; it is taken away", flush=True)


def _holder(lock: BaseFileLock) -> str:
    """Return in words who holds a lock, where its file says so."""
    try:
        pid, host, *_ = Path(lock.lock_file).read_text().split()
    except (OSError, ValueError):
        return ""
    return f" (process {pid} on {host})"
