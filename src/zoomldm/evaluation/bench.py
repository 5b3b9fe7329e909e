"""What all magnifications of an evaluation share: its models, its data, how much of them; and patches as vectors.

Legend: n patches, d width of a descriptor, e of the conditioning encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.encoder.base import Encoder
from zoomldm.errors import UserError
from zoomldm.evaluation.examples import Examples
from zoomldm.evaluation.protocols.base import Protocol as EvaluationProtocol
from zoomldm.features.base import Descriptor
from zoomldm.sampling.generator import LatentModel, PatchGenerator

MIN_PATCHES = 8

Vectors = Mapping[str, np.ndarray]
"""By distance name, (n, d)."""


class PatchSource(Protocol):
    """Where real patches and their conditions come from."""

    def count(self, split: str, magnification: float) -> int:
        """Return how many patches there are."""

    def num_lossless(self, split: str, magnification: float) -> int:
        """Return how many of them are kept without loss beside what is trained on; 0 without such a column."""

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
        lossless: bool = False,
    ) -> Iterator[Batch]:
        """Yield ``num`` patches after the first ``skip`` of a seeded random order, without repetition.

        ``lossless``: of those that are kept without loss alone, with these pixels as their images.
        """


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to evaluate.

    Attributes:
        num_per_magnification: patches a row, as far as the protocol allows.
        protocol: how many real patches stand on either side.
        all_training_up_to: a magnification with no more training patches than this is searched whole for the nearest.
        magnifications: those to evaluate, None for all of the ladder.
        num_examples: patches kept for pictures.
    """

    num_per_magnification: int
    protocol: EvaluationProtocol
    magnifications: Sequence[float] | None
    seed: int
    batch_size: int
    all_training_up_to: int = 25_000
    num_examples: int = 8

    def __post_init__(self) -> None:
        if self.num_per_magnification < MIN_PATCHES:
            raise UserError(f"n={self.num_per_magnification}: expected {MIN_PATCHES} patches a magnification or more")


@dataclass(frozen=True)
class Described:
    """Patches as vectors, in the order of the conditioning half.

    Attributes:
        embeddings: (n, e), of the conditioning encoder.
        patients: of each patch, the one whose condition it has where it is synthetic; empty where it is nobody's.
    """

    vectors: Vectors
    embeddings: np.ndarray | None = None
    patients: Sequence[str] = ()

    def __len__(self) -> int:
        return len(next(iter(self.vectors.values())))

    def in_order(self, order: np.ndarray) -> Described:
        """Return the patches in another order, or some of them, or some again."""
        embeddings = None if self.embeddings is None else self.embeddings[order]
        patients = [self.patients[i] for i in order] if len(self.patients) else ()
        return Described({name: vectors[order] for name, vectors in self.vectors.items()}, embeddings, patients)

    def repeated(self, num: int) -> Described:
        """Return ``num`` patches: these, and these again where they are fewer."""
        return self if num == len(self) else self.in_order(np.arange(num) % len(self))


@dataclass(frozen=True, kw_only=True)
class ShippedModel:
    """The model that ships with the package, for a row beside that of the run.

    Attributes:
        why_not: why it cannot be had or does not fit the data set; None where it can.
        identity: hashes of its weights, by part.
        make: loads it.
    """

    why_not: str | None
    identity: Mapping[str, str | None]
    make: Callable[[], PatchGenerator]

    @cached_property
    def generator(self) -> PatchGenerator:
        """What makes its patches."""
        return self.make()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all magnifications of an evaluation share.

    Attributes:
        generator: the trained model with its autoencoder and perhaps an embedding diffusion model.
        make_untrained: builds the same network before training; None where it cannot be had.
        shipped: the model that ships; None where no row asks for it.
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
    shipped: ShippedModel | None = None
    conditioned_on: str | None = None
    encoder: Encoder | None = None
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    examples: Examples = field(default_factory=Examples)

    def sampling_facts(self) -> dict[str, Any]:
        """Return how patches are made and, where an embedding diffusion model draws conditions, which one and how."""
        facts = self.generator.facts()
        if self.generator.edm is not None:
            facts |= {"EDM model": self.identity.get("edm"), **self.generator.edm_facts()}
        return facts

    @property
    def can_be_untrained(self) -> bool:
        """Whether the untrained network can be built."""
        return self.make_untrained is not None

    @cached_property
    def untrained(self) -> PatchGenerator:
        """The same network before training, sampled in the same way."""
        return self.generator.of(self.make_untrained())
