"""Locks between processes, on this machine or several."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

SAID_AFTER_S = 60.0


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; wait for it, and say so after a minute.

    The kernel's own lock (flock) ends with its process, so that nothing stays of a killed one. Where a file system has
    none, a file with host and process stands for it, which the next process on that host takes away.

    work: what the holder does, in words.
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
        print(f"waiting: another process {work}; if there is none, delete {lock.lock_file}", flush=True)
        lock.acquire()
    return lock
