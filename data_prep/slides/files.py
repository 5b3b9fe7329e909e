"""The files that one slide is made of, and whether they are still those that were read."""

import hashlib
from pathlib import Path

from zoomldm.errors import DataError

MIRAX_SUFFIX = ".mrxs"
FLAT_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
ZARR_SUFFIX = ".zarr"
CONVERTIBLE = frozenset({ZARR_SUFFIX, ".czi", ".lif", ".vsi", ".isyntax", ".sdpc", ".nd2"})
HASHED_BYTES = 1 << 16


def conversion_of(path: Path) -> str:
    """Return in words what to do with a file that cannot be opened: some kinds are best brought to another."""
    if path.suffix.lower() in CONVERTIBLE:
        return (
            "convert it to a pyramidal OME-TIFF, which keeps its scale: in QuPath (export as OME-TIFF, at full size), "
            "or with bioformats2raw and raw2ometiff"
        )
    return "check the file or copy it again"


def files_of(path: Path) -> list[Path]:
    """Return a slide's file, of a MIRAX slide also those of the folder beside it, where its pixels are.

    Raises:
        DataError: a MIRAX slide without its folder.
    """
    if path.suffix.lower() != MIRAX_SUFFIX:
        return [path]
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise DataError(f"{path}: the folder {folder.name}/ beside it, with its pixels, is missing; copy it too")
    return [path, *sorted(p for p in folder.iterdir() if p.is_file())]


def stamp_of(path: Path) -> tuple[int, int]:
    """Return (bytes, time of the last modification in ns) of a slide's files together.

    Raises:
        OSError: missing.
        DataError: a MIRAX slide without its folder.
    """
    stats = [file.stat() for file in files_of(path)]
    return sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)


def readable_stamp(path: Path) -> tuple[int, int]:
    """Return ``stamp_of`` a slide that is there and may be read.

    Raises:
        DataError: missing, a folder, not to be read.
    """
    try:
        for file in files_of(path):
            with open(file, "rb"):
                pass
        return stamp_of(path)
    except IsADirectoryError as error:
        raise DataError(f"{path}: a folder, not a slide") from error
    except OSError as error:
        where = error.filename or path
        raise DataError(f"{where}: cannot be read ({error.strerror}); check that it is there and its rights") from error


def quick_hash(path: Path) -> str:
    """Return a short hash of size, head and tail of a slide's files: enough to notice that others took their names."""
    digest = hashlib.sha256()
    for file in files_of(path):
        size = file.stat().st_size
        digest.update(str(size).encode())
        with open(file, "rb") as stream:
            digest.update(stream.read(HASHED_BYTES))
            stream.seek(max(0, size - HASHED_BYTES))
            digest.update(stream.read())
    return digest.hexdigest()[:16]
