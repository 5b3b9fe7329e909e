"""Locks between processes, on this machine or several."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from zoomldm.errors import UserError

SAID_AFTER_S, LIMIT_S = 60.0, 24 * 3600.0


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; wait for it, and say so after a minute.

    The kernel's own lock (flock) ends with its process, so that nothing stays of a killed one. Where a file system has
    none, a file with host and process stands for it, which the next process on that host takes away; of one that died
    on another host a person must say so, by deleting it.

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
    try:
        lock.acquire(timeout=SAID_AFTER_S)
    except Timeout:
        said = f"another process {work}{_holder(lock)}; if there is none, delete {lock.lock_file}"
        print(f"waiting: {said}", flush=True)
        try:
            lock.acquire(timeout=LIMIT_S)
        except Timeout as error:
            raise UserError(f"waited for {LIMIT_S / 3600:g} h: {said}, then run the same command again") from error
    return lock


def _holder(lock: BaseFileLock) -> str:
    """Return in words who holds a lock, where its file says so."""
    try:
        pid, host, *_ = Path(lock.lock_file).read_text().split()
    except (OSError, ValueError):
        return ""
    return f" (process {pid} on {host})"
