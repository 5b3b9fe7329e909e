"""A folder written aside that takes the place of another one whole; no moment is without either."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoomldm.files import raise_if_disk_fault, remove_temporaries, remove_tree, rename, sync_tree

OLD_SLIDES = ".*.old"
"""Folders that another is to take the place of."""


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` when the block ends, if it is there then.

    Raises:
        UserError: a full disk, or a folder that cannot be written.
    """
    aside = folder.with_name(f".{folder.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        yield aside
        if aside.is_dir():
            sync_tree(aside)
            if folder.is_dir():
                rename(folder, old_name(folder))
            rename(aside, folder)
            remove_tree(old_name(folder))
    except OSError as error:
        raise_if_disk_fault(error, aside)
        raise
    finally:
        remove_tree(aside)


def put_right(folder: Path) -> None:
    """End what a killed process began: the old folder comes back or goes, what was written beside it goes.

    Nobody else may be at it.
    """
    if old_name(folder).is_dir() and not folder.is_dir():
        rename(old_name(folder), folder)
    for path in (old_name(folder), *folder.parent.glob(f".{folder.name}.*part")):
        remove_tree(path)
    remove_temporaries(folder)


def old_name(folder: Path) -> Path:
    """Return what a folder is called while another takes its place."""
    return folder.with_name(f".{folder.name}.old")
