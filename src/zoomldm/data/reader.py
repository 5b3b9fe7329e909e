"""Random access to the samples of a data set: (rung, index) pairs in, a `Batch` out.

Members are read with `os.preadv` from the offsets in the index beside each tar, straight into the memory that travels:
one system call a sample and column, no copy, no parsing beyond a comparison with the header that is expected.

Legend: b batch, g grids of one size, S grid side, r embedding rows, D embedding width, K rungs of the ladder.
"""

from __future__ import annotations

import copy
import os
import resource
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch

from zoomldm.data.batch import Batch, SparseGridGroup
from zoomldm.data.dihedral import NUM_VARIANTS, transformed
from zoomldm.data.manifest import Manifest
from zoomldm.data.remote import RemoteShards
from zoomldm.data.schema import SampleMeta, decode_image, decode_npy, encode_npy, fields_of, slide_key
from zoomldm.data.order.sequence import seeded_subset
from zoomldm.data.shards import ColumnReader, column_path
from zoomldm.data.order.slots import filled, placed
from zoomldm.errors import DataError

_TAR_HEADER = tarfile.BLOCKSIZE
_NPY_HEADER = 128  # bytes that np.save writes before arrays of up to three dimensions
_LONGEST_GAP = 4096


class SampleSource:
    """The samples of one split, as the loader and the evaluation read them.

    counts: samples of each rung, int64 (K,), after exclude.txt; zero for magnifications that were not asked for.
    augmented: magnifications whose samples may come flipped and turned (zoomldm/data/dihedral.py), patch and grid
    together; their latents are then read from the column `variants`.
    remote: where the shards are fetched from, when they are not beside the manifest.
    """

    def __init__(
        self,
        manifest: Manifest | Path | str,
        *,
        split: str,
        columns: Sequence[str],
        magnifications: Sequence[float] | None = None,
        augmented: Sequence[float] = (),
        remote: RemoteShards | None = None,
    ) -> None:
        self.manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
        self.root = Path(self.manifest.root)
        self.split, self.columns, self.remote = split, tuple(columns), remote
        self.ladder = self.manifest.ladder
        self.manifest.check_columns(self.columns)
        chosen = [self.ladder.rung_of(m).index for m in magnifications or self.ladder.magnifications]
        self._shards = [
            self.manifest.shards_of(split, rung.magnification) if rung.index in chosen else []
            for rung in self.ladder.rungs
        ]
        self._ends = [np.cumsum([shard.num_samples for shard in shards], dtype=np.int64) for shards in self._shards]
        self._files = _OpenFiles()
        self.augmented_rungs = sorted(self.ladder.rung_of(m).index for m in augmented)
        self._check_variants()
        self._kept = self._without_excluded()
        self.counts = np.array([int(sizes.sum()) for sizes in self.shard_sizes])

    def only(self, columns: Sequence[str]) -> SampleSource:
        """Return the same samples with some of their columns alone."""
        fewer = copy.copy(self)
        fewer.columns = tuple(column for column in self.columns if column in columns)
        return fewer

    def __repr__(self) -> str:
        return f"SampleSource({self.root}, split={self.split}, columns={self.columns}, counts={self.counts.tolist()})"

    def check_files(self) -> None:
        """Look at every tar once, without reading it.

        Raises:
            DataError: names the shards that are missing or shorter than the manifest says, all in one message.
        """
        if self.remote is not None:
            return  # each is compared with the manifest when it is fetched
        faults = []
        for shard in (shard for shards in self._shards for shard in shards):
            for column in self.columns:
                tar = column_path(self.root / shard.path, column)
                size = tar.stat().st_size if tar.is_file() else None
                expected = shard.columns.get(column, {}).get("bytes", size)
                if size is None:
                    faults.append(f"{tar}: missing")
                elif size != expected:
                    faults.append(f"{tar}: {size:,} bytes, the manifest says {expected:,}")
        if faults:
            listed = "\n  ".join(faults[:20])
            more = f"\n  … and {len(faults) - 20} more" if len(faults) > 20 else ""
            raise DataError(f"{self.root}: {len(faults)} damaged shards; prepare the data again\n  {listed}{more}")

    @property
    def shard_sizes(self) -> list[np.ndarray]:
        """Samples of each shard, after exclude.txt, int64 (shards,) for each rung."""
        sizes = []
        for ends, kept in zip(self._ends, self._kept):
            edges = np.concatenate([np.zeros(1, np.int64), ends])
            sizes.append(np.diff(edges if kept is None else np.searchsorted(kept, edges)))
        return sizes

    def read(
        self,
        rung: np.ndarray,
        index: np.ndarray,
        sample_number: np.ndarray | None = None,
        variant: np.ndarray | None = None,
    ) -> Batch:
        """Read samples by rung and index within the rung, each int64 (b,), in that order.

        sample_number keys the draws of each sample; without it, a number that only this sample has.
        variant: 0 to 7, how samples of augmented magnifications are flipped and turned; without it none is.

        Raises:
            DataError: a tar is missing, cut short or foreign; the message names it.
        """
        return self.outlined(rung, index, sample_number, variant).batch()

    def outlined(
        self,
        rung: np.ndarray,
        index: np.ndarray,
        sample_number: np.ndarray | None = None,
        variant: np.ndarray | None = None,
    ) -> Reading:
        """Find samples, as `read` does, and say how much memory they need."""
        rung, index = np.asarray(rung, dtype=np.int64), np.asarray(index, dtype=np.int64)
        if sample_number is None:
            sample_number = fixed_sample_number(rung, index)
        turned = np.zeros_like(rung) if variant is None else np.where(np.isin(rung, self.augmented_rungs), variant, 0)
        return Reading(self, rung, np.asarray(sample_number, dtype=np.int64), turned, self._places(rung, index))

    def fetch_ahead(self, rung: np.ndarray, index: np.ndarray) -> None:
        """Begin to fetch the shards of samples that will be read soon, where they lie elsewhere."""
        if self.remote is not None:
            paths = dict.fromkeys(path for path, _ in self._places(np.asarray(rung), np.asarray(index)))
            self.remote.want((path, column) for path in paths for column in self.columns)

    def keys(self, rung: np.ndarray, index: np.ndarray) -> list[str]:
        """Return the names of samples, from the tar headers."""
        places = self._places(np.asarray(rung, dtype=np.int64), np.asarray(index, dtype=np.int64))
        return [self.column(path, self.columns[0]).key(i) for path, i in places]

    def eval_samples(self, magnification: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose min(n, available) samples of a magnification, the same for the same seed: (rung, index), in order.

        Of shards that lie elsewhere the first are taken, whose samples preparation has shuffled.
        """
        rung = self.ladder.rung_of(magnification).index
        count = int(self.counts[rung])
        index = seeded_subset(count, n, seed) if self.remote is None else np.arange(min(n, count))
        return np.full(len(index), rung), index

    def eval_batches(self, magnification: float, n: int, seed: int, batch_size: int = 64) -> Iterator[Batch]:
        """Read the samples of `eval_samples` batch by batch."""
        rung, index = self.eval_samples(magnification, n, seed)
        for start in range(0, len(index), batch_size):
            yield self.read(rung[start : start + batch_size], index[start : start + batch_size])

    def _places(self, rung: np.ndarray, index: np.ndarray) -> list[tuple[str, int]]:
        """Return each sample's shard and position in it."""
        places: list[tuple[str, int]] = [("", 0)] * len(rung)
        for k in np.unique(rung):
            at = np.flatnonzero(rung == k)
            wanted = index[at] if self._kept[k] is None else self._kept[k][index[at]]
            shard = np.searchsorted(self._ends[k], wanted, side="right")
            position = wanted - np.where(shard > 0, self._ends[k][shard - 1], 0)
            for i, s, p in zip(at.tolist(), shard.tolist(), position.tolist()):
                places[i] = (self._shards[k][s].path, p)
        return places

    def column(self, path: str, column: str) -> _Column:
        """Return an open column of a shard."""
        found = self._files.get((path, column))
        if found is None:
            tar = column_path(self.root / path, column) if self.remote is None else self.remote.tar(path, column)
            image_format = self.manifest.image_format if column == "image" else ""
            found = self._files.add((path, column), _Column(tar, fields_of(column, image_format)))
        return found

    def _check_variants(self) -> None:
        """Refuse to augment where turned latents are missing, or were made by another autoencoder than the latents."""
        if not self.augmented_rungs or "latent" not in self.columns:
            return
        turned, latent = self.manifest.columns.get("variants", {}), self.manifest.columns["latent"]
        lacking = [
            self.ladder[k].magnification
            for k in self.augmented_rungs
            if any("variants" not in shard.columns for shard in self._shards[k])
        ]
        stale = turned.get("autoencoder_sha256") != latent.get("autoencoder_sha256")
        if lacking or stale:
            wanted = ",".join(f"{self.ladder[k].magnification:g}" for k in self.augmented_rungs)
            reason = f"not there for {', '.join(f'{m:g}' for m in lacking)}" if lacking else "of another autoencoder"
            raise DataError(
                f"{self.root}: training.augment=[{wanted}] needs turned latents, which are {reason}; "
                f"`python data_prep/latents.py data={self.manifest.name} variants=[{wanted}]` makes them"
            )

    def _without_excluded(self) -> list[np.ndarray | None]:
        """Return the samples of each rung that exclude.txt leaves, None where it leaves all."""
        excluded = self.manifest.excluded()
        if not excluded:
            return [None] * len(self.ladder)
        if self.remote is not None:
            raise DataError(
                f"{self.root}: exclude.txt needs the keys of every shard, but paths.remote has them elsewhere; copy "
                "the shards to this machine, or prepare the data without those patients"
            )
        patients = {str(entry.get("slide")): str(entry.get("patient")) for entry in self.manifest.slides}
        slides = {slide_key(s) for s, patient in patients.items() if s in excluded or patient in excluded}
        slides |= {slide_key(name) for name in excluded}
        kept: list[np.ndarray | None] = []
        for shards in self._shards:
            flags = []
            for shard in shards:
                column = self.column(shard.path, self.columns[0])
                flags += [column.key(i).rsplit("_r", 1)[0] not in slides for i in range(len(column))]
            kept.append(np.flatnonzero(flags) if flags else None)
        return kept


def fixed_sample_number(rung: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return a sample number for samples outside the training sequence: (rung + 1)·2^40 + index."""
    return ((rung + 1) << 40) + index


class Reading:
    """Samples that were found and are to be read into one block of memory.

    num_bytes: of the block; outline: the batch with the places of its tensors in it.
    """

    def __init__(
        self,
        source: SampleSource,
        rung: np.ndarray,
        sample_number: np.ndarray,
        turned: np.ndarray,
        places: list[tuple[str, int]],
    ) -> None:
        self.source, self.places, self.turned = source, places, turned
        self.numbers = {"sample_number": sample_number, "rung": rung}
        self.groups = self._found_grids(rung) if "grid" in source.columns else []
        shapes = {name: (values.shape, torch.int64) for name, values in self.numbers.items()}
        if "image" in source.columns:
            side = source.ladder.patch_px
            shapes["image"] = ((len(rung), 3, side, side), torch.uint8)
        if "latent" in source.columns:
            path, position = places[0]
            shapes["latent"] = ((len(rung), *source.column(path, "latent").shape(position, 0)), torch.float16)
        for n, group in enumerate(self.groups):
            shapes[f"index {n}"] = (group.at.shape, torch.int64)
            shapes[f"rows {n}"] = ((int(group.ends[-1]), source.manifest.encoder.dim), torch.float16)
            shapes[f"cells {n}"] = ((len(group.at), group.side, group.side), torch.int32)
        laid, self.num_bytes = placed(list(shapes.values()))
        self.laid = dict(zip(shapes, laid))
        metas = self._read_meta() if "meta" in source.columns else None
        grids = [
            SparseGridGroup(*(self.laid[f"{name} {n}"] for name in ("index", "rows", "cells")))
            for n in range(len(self.groups))
        ]
        self.outline = Batch(
            sample_number=self.laid["sample_number"],
            rung=self.laid["rung"],
            keys=[meta.key for meta in metas] if metas else [],
            image=self.laid.get("image"),
            latent=self.laid.get("latent"),
            grids=grids if "grid" in source.columns else None,
            meta=metas,
        )

    def batch(self) -> Batch:
        """Read everything into memory of its own."""
        block = torch.empty(self.num_bytes, dtype=torch.uint8)  # aligned as a slot is: MKL's last bits hang on it
        self.into(block.numpy())
        return filled(self.outline, block)

    def into(self, block: np.ndarray) -> None:
        """Read everything into `block`, uint8 (num_bytes,)."""
        tensor = torch.from_numpy(block)
        arrays = {name: place.view(tensor).numpy() for name, place in self.laid.items()}
        for name, values in self.numbers.items():
            arrays[name][...] = values
        if "image" in arrays:
            self._read_images(arrays["image"])
        if "latent" in arrays:
            self._read_latents(arrays["latent"])
        for n, group in enumerate(self.groups):
            arrays[f"index {n}"][...] = group.at
            self._read_grids(group, arrays[f"rows {n}"], arrays[f"cells {n}"])

    def _found_grids(self, rung: np.ndarray) -> list[_Grids]:
        width, groups = self.source.manifest.encoder.dim, []
        for k in np.unique(rung):
            at = np.flatnonzero(rung == k)
            chosen = [(self.source.column(path, "grid"), i) for path, i in (self.places[n] for n in at.tolist())]
            num_rows = np.array([column.num_rows(position, width) for column, position in chosen])
            groups.append(_Grids(at, self.source.ladder[int(k)].grid_side, chosen, num_rows, np.cumsum(num_rows)))
        return groups

    def _read_images(self, into: np.ndarray) -> None:
        for i, (path, position) in enumerate(self.places):
            column = self.source.column(path, "image")
            try:
                pixels = decode_image(column.member(position, 0))
                into[i] = transformed(pixels.transpose(2, 0, 1), int(self.turned[i]))
            except (OSError, ValueError, SyntaxError) as error:
                raise column.damaged(position, f"not a {into.shape[-1]} px image ({error})") from error

    def _read_latents(self, into: np.ndarray) -> None:
        for i, (path, position) in enumerate(self.places):
            variant = int(self.turned[i])
            if variant:
                self.source.column(path, "variants").part_into(position, variant - 1, NUM_VARIANTS - 1, into[i])
            else:
                self.source.column(path, "latent").array_into(position, 0, into[i])

    def _read_grids(self, group: _Grids, rows: np.ndarray, cells: np.ndarray) -> None:
        stored = np.empty(cells.shape, np.uint16)
        starts = group.ends - group.num_rows
        for i, (column, position) in enumerate(group.chosen):
            column.grid_into(position, stored[i], rows[starts[i] : group.ends[i]])
        beyond = stored.max(axis=(1, 2)) >= group.num_rows
        if beyond.any():
            column, position = group.chosen[int(np.argmax(beyond))]
            raise column.damaged(position, "a cell points beyond the rows")
        for i, variant in enumerate(self.turned[group.at].tolist()):
            if variant:
                stored[i] = transformed(stored[i].copy(), variant)
        np.add(stored, starts[:, None, None], out=cells, casting="unsafe")

    def _read_meta(self) -> list[SampleMeta]:
        metas = []
        for path, position in self.places:
            column = self.source.column(path, "meta")
            try:
                metas.append(SampleMeta.decode(column.member(position, 0)))
            except (ValueError, TypeError) as error:
                raise column.damaged(position, f"not a sample's description ({error})") from error
        return metas


@dataclass(frozen=True)
class _Grids:
    """The grids of one side: batch positions `at`, where each is stored, and its part of all their rows."""

    at: np.ndarray
    side: int
    chosen: list[tuple[_Column, int]]
    num_rows: np.ndarray
    ends: np.ndarray


class _Column(ColumnReader):
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


class _OpenFiles:
    """The tars that are open in this process, as many as its limit allows, the longest unused closed first."""

    def __init__(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        self.capacity = max(32, wanted // 2)
        self._columns: OrderedDict[tuple[str, str], _Column] = OrderedDict()

    def get(self, key: tuple[str, str]) -> _Column | None:
        """Return the column `key` if it is open."""
        found = self._columns.get(key)
        if found is not None:
            self._columns.move_to_end(key)
        return found

    def add(self, key: tuple[str, str], column: _Column) -> _Column:
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
