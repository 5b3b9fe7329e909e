"""Random access to the samples of a data set: (rung, index) pairs in, a `Batch` out.

Legend: b batch, K rungs of the ladder.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.members import OpenColumn, OpenFiles
from zoomldm.data.order.sequence import seeded_subset
from zoomldm.data.reading import Reading
from zoomldm.data.remote import RemoteShards
from zoomldm.data.schema import fields_of, slide_key
from zoomldm.data.shards import column_path
from zoomldm.errors import DataError


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
        self._files = OpenFiles()
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

    def column(self, path: str, column: str) -> OpenColumn:
        """Return an open column of a shard."""
        found = self._files.get((path, column))
        if found is None:
            tar = column_path(self.root / path, column) if self.remote is None else self.remote.tar(path, column)
            image_format = self.manifest.image_format if column == "image" else ""
            found = self._files.add((path, column), OpenColumn(tar, fields_of(column, image_format)))
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
