"""Open tars of shards: members are read from their offsets into memory of the caller's.

One `os.preadv` a sample and column, no copy, no parsing beyond a comparison with the header that is expected.

Legend: S grid side, n embedding rows, D embedding width.
"""

from __future__ import annotations

import os
import resource
import tarfile
from collections import OrderedDict
from functools import cached_property, lru_cache

import numpy as np

from zoomldm.data.schema import decode_npy, encode_npy
from zoomldm.data.shards import ColumnReader
from zoomldm.errors import DataError

_TAR_HEADER = tarfile.BLOCKSIZE
_NPY_HEADER = 128  # bytes that np.save writes before arrays of up to three dimensions
_LONGEST_GAP = 4096


class OpenColumn(ColumnReader):
    """One open tar, read into memory of the caller's."""

    def damaged(self, position: int, reason: str) -> DataError:
        return DataError(f"shard {self.tar}, sample {position}: {reason}; prepare the data again")

    def member(self, position: int, field: int) -> bytes:
        """Return the bytes of one member."""
        offset, size = self._span(position, field)
        content = os.pread(self._fd, size, offset)
        if len(content) != size:
            raise self.damaged(position, f"cut short ({len(content):,} of {size:,} bytes)")
        return content

    def shape(self, position: int, field: int) -> tuple[int, ...]:
        """Return the shape of a .npy member."""
        try:
            return decode_npy(self.member(position, field)).shape
        except ValueError as error:
            raise self.damaged(position, f"{self.fields[field]} is no array ({error})") from error

    def array_into(self, position: int, field: int, into: np.ndarray) -> None:
        """Read a .npy member into `into`, of the same shape and type."""
        offset, size = self._span(position, field)
        header = bytearray(_TAR_HEADER + _NPY_HEADER)
        got = os.preadv(self._fd, [header, memoryview(into).cast("B")], offset - _TAR_HEADER)
        self._check(position, field, header, into, size)
        self._check_length(position, got, _TAR_HEADER + size)

    def part_into(self, position: int, part: int, num_parts: int, into: np.ndarray) -> None:
        """Read one of the `num_parts` equal arrays that a .npy member of shape (num_parts, …) holds."""
        offset, size = self._span(position, 0)
        header = bytearray(_TAR_HEADER + _NPY_HEADER)
        os.preadv(self._fd, [header], offset - _TAR_HEADER)
        self._check(position, 0, header, np.broadcast_to(into, (num_parts, *into.shape)), size)
        start = offset + _NPY_HEADER + part * into.nbytes
        self._check_length(position, os.preadv(self._fd, [memoryview(into).cast("B")], start), into.nbytes)

    def grid_into(self, position: int, cells: np.ndarray, rows: np.ndarray) -> None:
        """Read a grid's two neighbouring members in one call: cells uint16 (S, S), rows float16 (1 + n, D)."""
        (cells_at, cells_size), (rows_at, rows_size) = self._span(position, 0), self._span(position, 1)
        gap = rows_at + _NPY_HEADER - (cells_at + cells_size)
        if not _TAR_HEADER + _NPY_HEADER <= gap <= _LONGEST_GAP:
            self.array_into(position, 0, cells)
            self.array_into(position, 1, rows)
            return
        header, between = bytearray(_TAR_HEADER + _NPY_HEADER), bytearray(gap)
        parts = [header, memoryview(cells).cast("B"), between, memoryview(rows).cast("B")]
        got = os.preadv(self._fd, parts, cells_at - _TAR_HEADER)
        self._check(position, 0, header, cells, cells_size)
        self._check(position, 1, between[-_TAR_HEADER - _NPY_HEADER :], rows, rows_size)
        self._check_length(position, got, rows_at + rows_size - cells_at + _TAR_HEADER)

    def num_rows(self, position: int, width: int) -> int:
        """Return the number of embedding rows of a grid from its size in bytes."""
        _, size = self._span(position, 1)
        num_rows, rest = divmod(size - _NPY_HEADER, 2 * width)
        if rest or num_rows < 1:
            shape = self.shape(position, 1)
            raise self.damaged(position, f"its grid has rows of shape {shape}, the manifest's encoder makes {width}")
        return num_rows

    def _span(self, position: int, field: int) -> tuple[int, int]:
        offset, size = self.index[position, field].tolist()
        return offset, size

    def _check(self, position: int, field: int, header: bytearray, into: np.ndarray, size: int) -> None:
        """Compare a member's headers with those of the field and array that are expected."""
        name = header[:100].split(b"\0", 1)[0]
        if not name.endswith(self.endings[field]):
            raise self.damaged(position, f"member {name.decode(errors='replace')!r}, expected *.{self.fields[field]}")
        if header[_TAR_HEADER:] != _npy_header(into.shape, into.dtype.str) or size != _NPY_HEADER + into.nbytes:
            try:
                found = decode_npy(self.member(position, field))
                described = f"{found.dtype} {found.shape}"
            except ValueError:
                described = "no array"
            raise self.damaged(position, f"{self.fields[field]} is {described}, expected {into.dtype} {into.shape}")

    def _check_length(self, position: int, got: int, expected: int) -> None:
        if got != expected:
            raise self.damaged(position, f"cut short ({max(got, 0):,} of {expected:,} bytes)")

    @cached_property
    def endings(self) -> tuple[bytes, ...]:
        return tuple(b"." + field.encode() for field in self.fields)


class OpenFiles:
    """The tars that are open in this process, as many as its limit allows, the longest unused closed first."""

    def __init__(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        self.capacity = max(32, wanted // 2)
        self._columns: OrderedDict[tuple[str, str], OpenColumn] = OrderedDict()

    def get(self, key: tuple[str, str]) -> OpenColumn | None:
        """Return the column `key` if it is open."""
        found = self._columns.get(key)
        if found is not None:
            self._columns.move_to_end(key)
        return found

    def add(self, key: tuple[str, str], column: OpenColumn) -> OpenColumn:
        """Keep an open column."""
        self._columns[key] = column
        if len(self._columns) > self.capacity:
            self._columns.popitem(last=False)[1].close()
        return column

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self.__init__()


@lru_cache(maxsize=1 << 16)
def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return what np.save writes before an array of this shape and type."""
    return encode_npy(np.broadcast_to(np.zeros((), dtype), shape))[:_NPY_HEADER]
