"""Arrays in files, mapped into memory where they lie: a shard takes a few samples each of hundreds of slides."""

import math
import mmap
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np

FILES_REMEMBERED = 1 << 14
"""Of so many files a process keeps where their arrays lie, some kB each."""

Place = tuple[Any, tuple[int, ...], int]
"""Type, shape and byte offset of an array."""


def map_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return arrays of an .npz that is not compressed, read-only and unchecked; the file is open as long as they live.

    Raises:
        OSError, ValueError, KeyError, BadZipFile: no such file or array, or a damaged one.
    """
    with open(path, "rb", buffering=0) as stream:
        stat = os.fstat(stream.fileno())
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    places = _places(path, names, (stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return {
        name: np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape)
        for name, (dtype, shape, offset) in zip(names, places, strict=True)
    }


@lru_cache(maxsize=FILES_REMEMBERED)
def _places(path: Path, names: tuple[str, ...], stamp: tuple[int, int, int]) -> tuple[Place, ...]:
    with open(path, "rb") as stream, ZipFile(stream) as archive:
        return tuple(_place(stream, archive, f"{name}.npy") for name in names)


def _place(stream: IO[bytes], archive: ZipFile, name: str) -> Place:
    info = archive.getinfo(name)
    if info.compress_type != ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    stream.seek(info.header_offset + 26)  # of the member's own header: lengths of its name and extra field
    start = info.header_offset + 30 + sum(struct.unpack("<HH", stream.read(4)))
    stream.seek(start)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream)
    if is_fortran:
        raise ValueError(f"{name} lies in Fortran's order")
    return dtype, shape, stream.tell()
