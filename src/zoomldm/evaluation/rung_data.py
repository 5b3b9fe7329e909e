"""The real patches of one magnification, with which rows and metrics work.

Legend: b patches of a batch, p patch side (px).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.encoder.base import encode_in_batches
from zoomldm.errors import DataError
from zoomldm.evaluation.bench import MIN_PATCHES, Bench, Described, PatchSource
from zoomldm.evaluation.errors import Groups
from zoomldm.evaluation.protocols.base import Drawn
from zoomldm.evaluation.store import Chunks, identity_hash
from zoomldm.ladder import Rung
from zoomldm.sampling.generator import images_of


class RungData:
    """The real patches of one magnification, described when they are first asked for.

    Attributes:
        num: synthetic patches a row.
        spans: (start, stop) of the chunks in which patches are made; none holds a condition twice.
        is_lossless: images come from the data set's lossless column.
    """

    def __init__(self, bench: Bench, rung: Rung, drawn: Drawn, *, wants_embeddings: bool) -> None:
        self.bench, self.rung, self.drawn, self.num = bench, rung, drawn, drawn.num
        self.wants_embeddings = wants_embeddings and bench.encoder is not None and rung.index == 0
        size = bench.plan.batch_size
        self.spans = [
            (start, min(start + size, first + num))
            for first, num in self._rounds
            for start in range(first, first + num, size)
        ]
        self.is_lossless = lossless_serves(bench.source, rung, drawn)

    @property
    def _rounds(self) -> list[tuple[int, int]]:
        """(first place, number of places) of every time that the conditions are gone through."""
        step = self.drawn.num_conditions
        return [(first, min(step, self.num - first)) for first in range(0, self.num, step)]

    @cached_property
    def patients(self) -> list[str]:
        """Whose condition each synthetic patch of a row has."""
        batches = self.real_batches(columns=("meta",))
        once = [str(getattr(one, "patient", one)) for batch in batches for one in batch.meta or batch.keys]
        return [once[place % len(once)] for place in range(self.num)]

    @cached_property
    def half(self) -> Described:
        """The conditioning half: it gives the conditions, the reconstructions and the row ``halves``."""
        return self._described_real(with_embeddings=True, kept_as="reference")

    @cached_property
    def reference(self) -> Described:
        """The real patches on the other side of every row."""
        if self.drawn.first_reference == 0:
            return self.half
        return self._described_real(num=self.drawn.num_reference, skip=self.drawn.first_reference)

    @cached_property
    def groups(self) -> Groups:
        """Which patches are left out together, for the errors of all figures of this magnification."""
        return Groups([*self.half.patients, *self.reference.patients])

    @property
    def fingerprint(self) -> str:
        """A hash of the real patches as the judge sees them, side by side, and of whose they are."""
        judge, sides = self.bench.descriptors[0], (self.half, self.reference)
        seen = [hashlib.sha256(side.vectors[judge.distance_name].tobytes()).hexdigest() for side in sides]
        return identity_hash({"judge": judge.fingerprint, "seen": seen, "patients": [side.patients for side in sides]})

    @cached_property
    def training(self) -> np.ndarray:
        """What is searched for the nearest training patch, as the judge's vectors: all of a small magnification."""
        judge, drawn, source = self.bench.descriptors[0], self.drawn, self.bench.source
        name, magnification = judge.distance_name, self.rung.magnification
        parts = [self.half.vectors[name], self.reference.vectors[name][drawn.num_shared :]]
        available = source.count("train", magnification)
        is_whole = not self.is_lossless or source.num_lossless("train", magnification) == available
        num, skip = available - drawn.num_described, drawn.num_described
        if num > 0 and is_whole and available <= self.bench.plan.all_training_up_to:
            parts += [judge(images_of(batch)) for batch in self.real_batches(columns=("image",), num=num, skip=skip)]
        return np.concatenate(parts)

    @cached_property
    def held_out(self) -> Described | None:
        """Patches that no model saw, as many as there are; None where they are fewer than 8."""
        source, magnification = self.bench.source, self.rung.magnification
        have = (source.num_lossless if self.is_lossless else source.count)("test", magnification)
        num = min(self.num, have)
        if num < MIN_PATCHES:
            self.bench.notes.append(f"{self.rung.label}: {num} held-out patches, so there is no row for them")
            return None
        return self._described_real(split="test", num=num)

    def held_out_as(self, distance_name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the held-out patches' vectors of a descriptor, and the group of each; None where there are none."""
        found = self.held_out
        return found and (found.vectors[distance_name], self.groups.of(found.patients, len(found)))

    def conditions(self, index: int, *, columns: Sequence[str]) -> Batch:
        """Return the part of the conditioning half from which chunk ``index`` of a row is made."""
        start, stop = self.spans[index]
        (batch,) = self.real_batches(columns=columns, num=stop - start, skip=start % self.drawn.num_conditions)
        return batch

    def real_batches(
        self, *, columns: Sequence[str], split: str = "train", num: int | None = None, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield real patches; by default those of the conditioning half.

        Raises:
            DataError: the data set ends before there are as many as it counted.
        """
        num, found = self.drawn.num_conditions if num is None else num, 0
        for batch in self.bench.source.batches(
            split=split,
            magnification=self.rung.magnification,
            num=num,
            skip=skip,
            seed=self.bench.plan.seed,
            columns=columns,
            batch_size=self.bench.plan.batch_size,
            lossless=self.is_lossless,
        ):
            found += len(batch)
            yield batch
        if found != num:
            raise DataError(f"{self.rung.label}: {split} patches ended after {found} of {num}; run data_prep/verify.py")

    def _described_real(
        self,
        *,
        split: str = "train",
        num: int | None = None,
        skip: int = 0,
        with_embeddings: bool = False,
        kept_as: str | None = None,
    ) -> Described:
        patients: list[str] = []

        def images() -> Iterator[np.ndarray]:
            for batch in self.real_batches(columns=("image", "meta"), split=split, num=num, skip=skip):
                patients.extend(str(getattr(one, "patient", one)) for one in batch.meta or batch.keys)
                yield images_of(batch)

        found = self.describe(images(), with_embeddings=with_embeddings, kept_as=kept_as)
        return Described(found.vectors, found.embeddings, patients)

    def describe(
        self, images: Iterable[np.ndarray], *, with_embeddings: bool = False, kept_as: str | None = None
    ) -> Described:
        """Describe patches uint8 (b, p, p, 3), chunk by chunk.

        Args:
            with_embeddings: also by the conditioning encoder, where that is wanted.
            kept_as: the first patches are kept for pictures under this name.
        """
        parts: dict[str, list[np.ndarray]] = {one.distance_name: [] for one in self.bench.descriptors}
        embeddings: list[np.ndarray] = []
        first: list[np.ndarray] = []
        for chunk in images:
            for descriptor in self.bench.descriptors:
                parts[descriptor.distance_name].append(descriptor(chunk))
            if with_embeddings and self.wants_embeddings:
                embeddings.append(encode_in_batches(self.bench.encoder, chunk))
            if kept_as and sum(map(len, first)) < self.bench.plan.num_examples:
                first.append(chunk)
        if kept_as:
            self.bench.examples.put(kept_as, self.rung.label, np.concatenate(first)[: self.bench.plan.num_examples])
        vectors = {name: np.concatenate(rows) for name, rows in parts.items()}
        return Described(vectors, np.concatenate(embeddings) if embeddings else None)

    def chunks(self, row: str, depends_on: Mapping[str, Any]) -> Chunks:
        """Return a synthetic row's patches as far as they are on disk.

        Args:
            depends_on: JSON values; what the row's patches depend on beside the models, the data and the plan.
        """
        bench = self.bench
        content = {name: bench.identity.get(name) for name in ("model", "autoencoder", "data")}
        content |= {"row": row, "seed": bench.plan.seed, "batch": bench.plan.batch_size}
        content |= {"sampling": bench.generator.facts(), "row depends on": dict(depends_on)}
        sizes = [stop - start for start, stop in self.spans]
        return Chunks(bench.folder, f"{row}-{self.rung.label}", identity_hash(content), sizes)


def lossless_serves(source: PatchSource, rung: Rung, drawn: Drawn) -> bool:
    """Tell whether enough patches of a magnification are kept without loss for both sides of its comparisons."""
    return source.num_lossless("train", rung.magnification) >= drawn.num_described
