"""Faults of the storage that slides lie on, told from those of slides."""

import errno
from pathlib import Path

STORAGE_ERRORS = {
    *(errno.EIO, errno.ENOENT, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EREMOTEIO),
}
"""What a disk or a mount that is gone answers."""


def is_storage_fault(path: Path, error: BaseException | None) -> bool:
    """Say whether a slide failed because its file cannot be read: by the error and its causes, and by trying again."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
            return True
        error = error.__cause__ or error.__context__
    try:
        with open(path, "rb") as stream:
            stream.read(1)
    except OSError as again:
        return again.errno in STORAGE_ERRORS
    return False
