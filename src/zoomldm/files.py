"""Files that are whole or absent, their checksums, and progress that tells a rate and an estimate.

Whatever renames, links, deletes or brings to the disk goes through here. What has its name is on the disk: a file is
flushed before it is renamed into place, its folder afterwards.
"""

import errno
import glob
import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from zoomldm.errors import UserError

before_step: Callable[[str, Path], None] | None = None
"""Called before each rename, link, unlink, rmdir and fsync, with that word and the path: tests stop a process there."""


@contextmanager
def open_atomically(path: str | os.PathLike, mode: str = "wb", *, is_name_kept: bool = True) -> Iterator[IO]:
    """Open a temporary file beside ``path`` that takes its name only when the block ends without an error.

    The temporary lies in the same folder, since ``os.replace`` is atomic only within one file system.

    is_name_kept: bring the name to the disk too; False where another file of that folder comes next, which does.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode) as stream:
            yield stream
            stream.flush()
            _step("fsync", temporary)
            os.fsync(stream.fileno())
        rename(temporary, path, is_kept=is_name_kept)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError):
            raise_if_disk_fault(error, path)
        raise


def rename(source: Path, target: Path, *, is_kept: bool = True) -> None:
    """Give a file or folder a name, in place of a file or an empty folder that had it, and bring that to the disk.

    Raises:
        UserError: what lies under that name is in the way, or the folder cannot be written.
    """
    _step("rename", target)
    try:
        os.replace(source, target)
    except OSError as error:
        raise_if_disk_fault(error, target)
        raise
    for folder in {target.parent, source.parent} if is_kept else ():
        sync(folder)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; the new name's folder is yet to be brought to the disk.

    Raises:
        OSError: the file system has no hard links.
    """
    _step("link", target)
    os.link(source, target)


def remove(path: Path) -> None:
    """Delete a file; do nothing where there is none."""
    if os.path.lexists(path):
        _step("unlink", path)
        path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Delete a folder and all that it holds; what cannot be deleted stays."""
    for below, folders, names in os.walk(folder, topdown=False):
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(below, name)))]:
            with suppress(OSError):
                remove(Path(below, name))
        with suppress(OSError):
            _step("rmdir", Path(below))
            os.rmdir(below)


def remove_temporaries(*folders: Path, of: str = "") -> None:
    """Delete what killed processes left of `open_atomically` in folders to which nobody writes now.

    Args:
        of: a file's name: of this one alone, to which nobody else writes.
    """
    for folder in folders:
        for path in folder.glob(f".{glob.escape(of)}.*.tmp" if of else ".*.tmp"):
            remove(path)


@contextmanager
def held(lock: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Raises:
        UserError: says ``busy``: another process holds it.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise UserError(busy) from error


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    _step("fsync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # a file system that flushes no folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path, *, files: bool = True) -> None:
    """Bring a folder, the folders in it, and their files to the disk."""
    for below, _, names in os.walk(folder, topdown=False):
        for name in names if files else ():
            sync(Path(below, name))
        sync(Path(below))


def _step(kind: str, path: Path) -> None:
    if before_step is not None:
        before_step(kind, path)


def raise_if_disk_fault(error: OSError, path: str | os.PathLike) -> None:
    """Turn a full disk, a refused write or what lies in the way into a ``UserError`` that names the file.

    It returns for any other fault.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(f"{path}: the disk is full; free some space and run the same command again") from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or mend its rights"
        ) from error
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ELOOP):
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); a folder or a link lies where a file or folder of ours "
            "belongs; take it away"
        ) from error


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Write ``content`` under ``path`` so that a reader sees the old file or the whole new one."""
    with open_atomically(path, "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def sha256_of(path: str | os.PathLike) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def progress(
    iterable: Iterable | None = None,
    *,
    total: int | None = None,
    label: str = "",
    unit: str = "it",
    shown: bool = True,
):
    """Wrap ``iterable`` in a bar on stderr with a rate and an estimate; a line every 30 s where it is no terminal.

    There is none where the ``total`` is 0.
    """
    from tqdm import tqdm

    interval_s = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        iterable,
        total=total,
        desc=label,
        unit=unit,
        mininterval=interval_s,
        dynamic_ncols=True,
        file=sys.stderr,
        disable=not shown or total == 0,
    )
