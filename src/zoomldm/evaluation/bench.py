"""What rows and metrics work with: the models and data of a whole evaluation, and the real patches of a magnification.

Legend: n patches, p patch side (px), d width of a descriptor, e of the conditioning encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.encoder.base import Encoder, encode_in_batches
from zoomldm.errors import DataError, UserError
from zoomldm.evaluation.examples import Examples
from zoomldm.evaluation.store import Chunks, identity_hash
from zoomldm.features.base import Descriptor
from zoomldm.ladder import Rung
from zoomldm.sampling.generator import LatentModel, PatchGenerator, images_of

MIN_PATCHES = 8

Vectors = Mapping[str, np.ndarray]
"""By distance name, (n, d)."""


class PatchSource(Protocol):
    """Where real patches and their conditions come from."""

    def count(self, split: str, magnification: float) -> int:
        """Return how many patches there are."""

    def batches(
        self,
        *,
        split: str,
        magnification: float,
        num: int,
        skip: int,
        seed: int,
        columns: Sequence[str],
        batch_size: int,
    ) -> Iterator[Batch]:
        """Yield ``num`` patches after the first ``skip`` of a seeded random order, without repetition."""


class ProgressBar(Protocol):
    """What counts the synthetic patches."""

    total: float | None

    def update(self, n: float = 1) -> Any:
        """Count patches that were made."""

    def refresh(self) -> Any:
        """Draw the bar again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to evaluate.

    Attributes:
        num_per_magnification: patches a row, at most; half the training patches where there are fewer.
        magnifications: those to evaluate, None for all of the ladder.
        num_examples: patches kept for pictures.
    """

    num_per_magnification: int = 10_000
    magnifications: Sequence[float] | None = None
    seed: int = 0
    batch_size: int = 64
    num_examples: int = 8

    def __post_init__(self) -> None:
        if self.num_per_magnification < MIN_PATCHES:
            raise UserError(f"n={self.num_per_magnification}: expected {MIN_PATCHES} patches a magnification or more")


@dataclass(frozen=True)
class Described:
    """Patches as vectors, in the order of the conditioning half; ``embeddings``: (n, e) of the conditioning encoder."""

    vectors: Vectors
    embeddings: np.ndarray | None = None
    patients: Sequence[str] = ()

    def in_order(self, order: np.ndarray) -> Described:
        """Return the patches in another order."""
        embeddings = None if self.embeddings is None else self.embeddings[order]
        return Described({name: vectors[order] for name, vectors in self.vectors.items()}, embeddings)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all magnifications of an evaluation share.

    Attributes:
        generator: the trained model with its autoencoder and perhaps an embedding diffusion model.
        make_untrained: builds the same network before training; None where it cannot be had.
        descriptors: the first one judges.
        identity: hashes of what synthetic patches depend on: ``model``, ``autoencoder``, ``edm``, ``data``.
        conditioned_on: name of the encoder that conditions the model; a descriptor of that name flatters it.
        encoder: this encoder; None where its weights are not at hand.
        folder: where synthetic patches are kept, None to keep none.
        notes, examples: what is found on the way.
    """

    generator: PatchGenerator
    source: PatchSource
    descriptors: Sequence[Descriptor]
    plan: Plan
    identity: Mapping[str, str | None]
    make_untrained: Callable[[], LatentModel] | None = None
    conditioned_on: str | None = None
    encoder: Encoder | None = None
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    examples: Examples = field(default_factory=Examples)

    @property
    def can_be_untrained(self) -> bool:
        """Whether the untrained network can be built."""
        return self.make_untrained is not None

    @cached_property
    def untrained(self) -> PatchGenerator:
        """The same network before training, sampled in the same way."""
        return self.generator.of(self.make_untrained())


class RungData:
    """The real patches of one magnification, described when they are first asked for.

    Attributes:
        num: patches a row.
        spans: (start, stop) of the chunks in which patches are made.
    """

    def __init__(self, bench: Bench, rung: Rung, num: int, *, bar: ProgressBar, wants_embeddings: bool) -> None:
        self.bench, self.rung, self.num = bench, rung, num
        self.wants_embeddings = wants_embeddings and bench.encoder is not None and rung.index == 0
        size = bench.plan.batch_size
        self.spans = [(start, min(start + size, num)) for start in range(0, num, size)]
        self._bar = bar

    @cached_property
    def half(self) -> Described:
        """The conditioning half: it gives the conditions, the reconstructions and the row ``halves``."""
        patients: list[str] = []

        def images() -> Iterator[np.ndarray]:
            for batch in self.real_batches(columns=("image", "meta")):
                patients.extend(str(getattr(one, "patient", one)) for one in batch.meta or batch.keys)
                yield images_of(batch)

        found = self.describe(images(), with_embeddings=True, kept_as="reference")
        return Described(found.vectors, found.embeddings, patients)

    @cached_property
    def reference(self) -> Vectors:
        """The other half: the reference of every row."""
        batches = self.real_batches(columns=("image",), skip=self.num)
        return self.describe(map(images_of, batches)).vectors

    @cached_property
    def training(self) -> Vectors:
        """Both halves."""
        return {name: np.concatenate([self.half.vectors[name], self.reference[name]]) for name in self.reference}

    @cached_property
    def held_out(self) -> Vectors | None:
        """Patches that no model saw, as many as there are; None where they are fewer than 8."""
        num = min(self.num, self.bench.source.count("test", self.rung.magnification))
        if num < MIN_PATCHES:
            self.bench.notes.append(f"{self.rung.label}: {num} held-out patches, so there is no row for them")
            return None
        return self.describe(map(images_of, self.real_batches(columns=("image",), split="test", num=num))).vectors

    def count(self, num: int, *, was_made: bool) -> None:
        """Move the progress bar by patches that were made, or take those that were on disk off its end."""
        if was_made:
            self._bar.update(num)
        else:
            self._bar.total -= num
            self._bar.refresh()

    def real_batches(
        self, *, columns: Sequence[str], split: str = "train", num: int | None = None, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield real patches; by default those of the conditioning half.

        Raises:
            DataError: the data set ends before there are as many as it counted.
        """
        num, found = self.num if num is None else num, 0
        for batch in self.bench.source.batches(
            split=split,
            magnification=self.rung.magnification,
            num=num,
            skip=skip,
            seed=self.bench.plan.seed,
            columns=columns,
            batch_size=self.bench.plan.batch_size,
        ):
            found += len(batch)
            yield batch
        if found != num:
            raise DataError(f"{self.rung.label}: {split} patches ended after {found} of {num}; run data_prep/verify.py")

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
