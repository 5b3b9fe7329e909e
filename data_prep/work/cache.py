"""A slide on a network disk is read from a copy on a local one: whole, checked, and gone when it has been read."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from data_prep.settings import CacheSettings
from data_prep.slides.companions import companions_of
from data_prep.slides.files import quick_hash, readable_stamp, stamp_of
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.table import SlideSpec
from data_prep.work.lock import locked
from zoomldm.errors import DataError

CHUNK_BYTES = 1 << 23


class _LocalFaultError(Exception):
    """The copy cannot be had: the slide is then read where it lies."""


@contextmanager
def at_hand(spec: SlideSpec, cache: CacheSettings | None) -> Iterator[SlideSpec]:
    """Yield a slide's line of the table with the path of a local copy, which goes when the block ends.

    Without a cache, and where it has no room or cannot be written, which is said, the slide is read where it lies.

    Raises:
        DataError: the slide cannot be read, or changed while it was copied.
        OSError: the slide cannot be read.
    """
    if cache is None:
        yield spec
        return
    readable_stamp(spec.path)  # which says what is wrong with it
    with _place_in(spec.path, cache) as folder:
        local = _copied(spec.path, folder) if folder else None
        if local is None:
            yield spec
            return
        try:
            yield replace(spec, path=local)
        except (DataError, UnreadableError) as error:  # the copy is gone when that is read
            raise type(error)(str(error).replace(str(local), str(spec.path))) from error


@contextmanager
def _place_in(slide: Path, cache: CacheSettings) -> Iterator[Path | None]:
    """Yield an empty folder for a slide's copy, None where there is no room; at the end it is taken away."""
    num_bytes = sum(file.stat().st_size for file in companions_of(slide))
    folder = Path(cache.folder) / f"zoomldm-{os.getpid()}-{uuid.uuid4().hex[:12]}-{num_bytes}"
    held, fault = FileLock(_lock_of(folder), timeout=0), None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".lock", f"makes room in {folder.parent}"):
            _check_room(folder.parent, num_bytes, cache.most_gb)
            held.acquire()
            folder.mkdir()
    except (OSError, _LocalFaultError) as error:
        fault = error
    try:
        if fault:
            _say(slide, folder.parent, fault)
        yield None if fault else folder
    finally:
        _discard(folder)
        held.release()


def _check_room(root: Path, num_bytes: int, most_gb: float | None) -> None:
    """Remove what killed processes have left, then see whether so many bytes find room."""
    taken = to_come = 0
    for lock in root.glob("zoomldm-*.lock"):
        folder = lock.with_suffix("")
        with suppress(Timeout), FileLock(lock, timeout=0):
            _discard(folder)
        if folder.is_dir():
            size = int(folder.name.rsplit("-", 1)[1])
            taken += size
            to_come += max(0, size - _bytes_in(folder))
    if most_gb is not None and taken + num_bytes > most_gb * 1e9:
        raise _LocalFaultError(f"slide.cache_gb={most_gb:g} has no room, {taken / 1e9:.2f} GB are taken")
    free = shutil.disk_usage(root).free - to_come
    if num_bytes > free:
        raise _LocalFaultError(f"{free / 1e9:.2f} GB are free")


def _bytes_in(folder: Path) -> int:
    total = 0
    with suppress(OSError):  # its owner may be taking it away
        for file in folder.rglob("*"):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        _lock_of(folder).unlink()


def _copied(slide: Path, folder: Path) -> Path | None:
    """Copy a slide's files and return the copy's path, None where the local disk has failed."""
    stamp, part = readable_stamp(slide), folder / "part"
    try:
        for file in companions_of(slide):
            _copy_file(file, part / file.relative_to(slide.parent))
        if readable_stamp(slide) != stamp:
            raise DataError(f"{slide}: the file changed while it was copied; run again when it is at rest")
        with _local_faults():
            part.rename(folder / "slide")
            copy = folder / "slide" / slide.name
            if stamp_of(copy) != stamp or quick_hash(copy) != quick_hash(slide):
                raise _LocalFaultError("the copy differs from the slide")
        return copy
    except _LocalFaultError as error:
        _say(slide, folder.parent, error)
        return None


def _copy_file(source: Path, target: Path) -> None:
    with open(source, "rb", buffering=0) as reader:
        with _local_faults():
            target.parent.mkdir(parents=True, exist_ok=True)
            writer = open(target, "xb", buffering=0)  # noqa: SIM115 - a fault of the slide is none of the copy
        with writer:
            while chunk := reader.read(CHUNK_BYTES):
                with _local_faults():
                    view = memoryview(chunk)
                    while view:
                        view = view[writer.write(view) :]
        facts = os.fstat(reader.fileno())
    with _local_faults():
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        if target.stat().st_size != facts.st_size:
            raise _LocalFaultError(f"{target} is cut short")


@contextmanager
def _local_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _LocalFaultError(str(error)) from error


def _say(slide: Path, root: Path, error: Exception) -> None:
    print(f"slide.cache={root}: {error}; {slide} is read where it lies", flush=True)
