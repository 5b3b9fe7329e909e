"""Files that are whole or absent, their checksums, and progress that tells a rate and an estimate."""

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zoomldm.errors import UserError


@contextmanager
def open_atomically(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file beside ``path`` that takes its name only when the block ends without an error.

    The temporary lies in the same folder, since ``os.replace`` is atomic only within one file system.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise_if_disk_fault(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def raise_if_disk_fault(error: OSError, path: str | os.PathLike) -> None:
    """Turn a full disk or a refused write into a ``UserError`` that names the file; return for any other fault."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(f"{path}: the disk is full; free some space and run the same command again") from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or mend its rights"
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
