"""Columns in tar shards: written once with reproducible bytes, read at random through an index of byte offsets.

A shard ``shards/<split>/<magnification>/<nnnnn>`` is one tar a column, ``<nnnnn>.<column>.tar``, and beside each tar
``<nnnnn>.<column>.index.npy``, int64 (n, fields, 2): byte offset and size of every member.
"""

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from zoomldm.data.schema import fields_of
from zoomldm.errors import DataError
from zoomldm.files import open_atomically
from zoomldm.stored import read_npy

TAR_OWNER = "zoomldm"


def column_path(shard: str | os.PathLike, column: str) -> Path:
    """Return the tar of a column of a shard (``.../00000`` -> ``.../00000.image.tar``)."""
    return Path(f"{shard}.{column}.tar")


def index_path(tar: str | os.PathLike) -> Path:
    return Path(str(tar).removesuffix(".tar") + ".index.npy")


@contextmanager
def open_column(tar: str | os.PathLike) -> Iterator[Callable[[str, dict[str, bytes]], None]]:
    """Yield ``write(key, {field: bytes})``; when the block ends without an error, the tar and its index are there.

    The same samples give the same bytes: times, owners and rights are fixed. The index is renamed into place first,
    so that a tar under its final name is whole and indexed.
    """
    from webdataset import TarWriter

    spans: list[list[tuple[int, int]]] = []
    position = 0

    def write(key: str, fields: dict[str, bytes]) -> None:
        nonlocal position
        writer.write({"__key__": key, **fields})
        spans.append([])
        for name in sorted(fields):  # a member is one block of header, then its bytes in whole blocks
            size = len(fields[name])
            spans[-1].append((position + tarfile.BLOCKSIZE, size))
            position += tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))

    with open_atomically(tar, "wb") as stream:
        with TarWriter(stream, user=TAR_OWNER, group=TAR_OWNER, mode=0o444, mtime=0, encoder=False) as writer:
            yield write
        num_fields = len(spans[0]) if spans else 1
        write_index(tar, np.array(spans, dtype=np.int64).reshape(-1, num_fields, 2), is_name_kept=False)


def write_column(tar: str | os.PathLike, samples: Iterable[tuple[str, dict[str, bytes]]]) -> int:
    """Write ``(key, {field: bytes})`` samples as a tar and its index; return how many."""
    number = 0
    with open_column(tar) as write:
        for key, fields in samples:
            write(key, fields)
            number += 1
    return number


def write_index(tar: str | os.PathLike, index: np.ndarray, *, is_name_kept: bool = True) -> None:
    with open_atomically(index_path(tar), "wb", is_name_kept=is_name_kept) as stream:
        np.save(stream, index)


def _members(tar: str | os.PathLike) -> list[tuple[str, str, int, int]]:
    """Return (key, field, byte offset, size) of each member.

    Raises:
        DataError: the tar is cut short or no tar.
    """
    members = []
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                key, _, field = member.name.partition(".")
                members.append((key, field, member.offset_data, member.size))
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{tar}: not a whole tar ({error}); prepare the data again") from error
    if members and os.path.getsize(tar) < members[-1][2] + members[-1][3]:
        raise DataError(f"{tar}: cut short in {members[-1][0]}; prepare the data again")
    return members


def build_index(tar: str | os.PathLike) -> np.ndarray:
    """Return int64 (n, fields, 2): byte offset and size of every member, samples in the tar's order.

    Raises:
        DataError: cut short, or samples of unequal fields.
    """
    members = _members(tar)
    fields = [field for key, field, _, _ in members if key == members[0][0]]
    if members and (len(members) % len(fields) or [m[1] for m in members] != fields * (len(members) // len(fields))):
        raise DataError(f"{tar}: its samples have unequal fields; prepare the data again")
    spans = np.array([member[2:] for member in members], dtype=np.int64)
    return spans.reshape(-1, max(1, len(fields)), 2)


def read_keys(tar: str | os.PathLike) -> list[str]:
    """Return a tar's keys in order, read from its headers alone."""
    return list(dict.fromkeys(key for key, _, _, _ in _members(tar)))


class ColumnReader:
    """Random access to one column of a shard: ``reader[i]`` -> {field: bytes}, by ``os.pread``.

    Safe to share between threads, and across a fork.

    Raises:
        DataError: the tar is missing or shorter than its index says.
    """

    def __init__(self, tar: str | os.PathLike, fields: tuple[str, ...]) -> None:
        self.tar, self.fields = Path(tar), fields
        try:
            self._fd = os.open(self.tar, os.O_RDONLY)
        except OSError as error:
            self._fd = -1
            raise DataError(f"shard {self.tar}: cannot be read ({error.strerror}); prepare the data again") from error
        path = index_path(self.tar)
        try:
            self.index = read_npy(path)
        except (OSError, ValueError):
            self.index = build_index(self.tar)
        if self.index.ndim != 3 or (len(self.index) and self.index.shape[1:] != (len(fields), 2)):
            raise DataError(
                f"{path}: shape {self.index.shape}, expected (n, {len(fields)}, 2); delete it to rebuild it"
            )
        if len(self.index) and os.fstat(self._fd).st_size < int(self.index.sum(-1).max()):
            raise DataError(f"shard {self.tar}: shorter than its index says; prepare the data again")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> dict[str, bytes]:
        return {
            field: os.pread(self._fd, int(size), int(offset))
            for field, (offset, size) in zip(self.fields, self.index[position], strict=True)
        }

    def key(self, position: int) -> str:
        """Return a sample's key from the tar header before its first member."""
        name = os.pread(self._fd, 100, int(self.index[position, 0, 0]) - tarfile.BLOCKSIZE)
        return name.split(b"\0", 1)[0].decode().partition(".")[0]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class ShardReader:
    """Random access to columns of one shard: ``reader.read(i)`` -> {column: {field: bytes}}.

    Args:
        root: the data set's folder.
        shard: the shard's path in it, as the manifest has it (``shards/train/20x/00000``).
        columns: which columns.
        image_format: of the image column, ``png`` or ``jpeg``.

    Raises:
        DataError: a tar is missing, cut short, or holds another number of samples than its siblings.
    """

    def __init__(
        self, root: str | os.PathLike, shard: str, columns: Iterable[str], *, image_format: str = "png"
    ) -> None:
        self.columns = {
            column: ColumnReader(column_path(Path(root) / shard, column), fields_of(column, image_format))
            for column in columns
        }
        lengths = {column: len(reader) for column, reader in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"shard {shard}: its columns hold unequal numbers of samples, {lengths}; run verify.py")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def read(self, position: int) -> dict[str, dict[str, bytes]]:
        return {column: reader[position] for column, reader in self.columns.items()}

    def key(self, position: int) -> str:
        return next(iter(self.columns.values())).key(position)

    def close(self) -> None:
        for reader in self.columns.values():
            reader.close()
