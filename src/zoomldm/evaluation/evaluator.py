"""Evaluate a trained ZoomLDM per magnification: every row against the same half of the real training patches.

At each magnification 2n training patches are drawn. Half B gives the conditions, the reconstructions and the row
``halves``; half A is the reference of every row. So all rows have the same n and the same other side, and ``halves`` is
what two sets of real patches make of it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zoomldm.data.batch import Batch
from zoomldm.encoder.base import Encoder, encode_in_batches
from zoomldm.errors import UserError, near_match
from zoomldm.evaluation import distances
from zoomldm.evaluation.claims import claims_of
from zoomldm.evaluation.distances import Measure
from zoomldm.evaluation.result import PAIRED_ROWS, ROWS, SYNTHETIC_ROWS, Cell, DescriptorInfo, Evaluation
from zoomldm.evaluation.store import PatchStore, identity_hash
from zoomldm.features.base import Descriptor
from zoomldm.files import open_atomically, progress
from zoomldm.ladder import Ladder, Rung
from zoomldm.sampling.generator import LatentModel, PatchGenerator

MIN_PATCHES = 8


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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to evaluate.

    Attributes:
        rows: of ``result.ROWS``; rows that cannot be had (no embedding diffusion model) are left out with a note.
        num_per_magnification: patches a row, at most; half the training patches where there are fewer.
        magnifications: those to evaluate, None for all of the ladder.
        num_examples: patches kept for pictures.
    """

    rows: Sequence[str] = ("halves", "held_out", "reconstructions", "oracle", "generated", "shuffled", "untrained")
    num_per_magnification: int = 10_000
    magnifications: Sequence[float] | None = None
    seed: int = 0
    batch_size: int = 64
    num_examples: int = 8
    kid_and_recall: bool = True

    def __post_init__(self) -> None:
        for row in self.rows:
            if row not in ROWS:
                raise UserError(f"rows: no row {row!r};{near_match(row, ROWS)} expected some of {', '.join(ROWS)}")
        if self.num_per_magnification < MIN_PATCHES:
            raise UserError(f"n={self.num_per_magnification}: expected {MIN_PATCHES} patches a magnification or more")


@dataclass
class Examples:
    """Patches for pictures: row → magnification → uint8 (k, p, p, 3); row ``reference``: the real ones of half B."""

    patches: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all patches into one npz file, atomically."""
        flat = {f"{row}|{label}": images for row, by in self.patches.items() for label, images in by.items()}
        with open_atomically(path) as stream:
            np.savez_compressed(stream, **flat)

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """Read what ``save`` wrote; empty where there is nothing."""
        examples = cls()
        if Path(path).is_file():
            with np.load(path, allow_pickle=False) as content:
                for name in content.files:
                    examples.put(*name.split("|"), content[name])
        return examples

    def put(self, row: str, label: str, images: np.ndarray) -> None:
        self.patches.setdefault(row, {})[label] = images

    def get(self, row: str, label: str) -> np.ndarray | None:
        return self.patches.get(row, {}).get(label)


@dataclass(frozen=True)
class _Half:
    """The conditioning half at one magnification: features by descriptor (n, d), patients, first images."""

    features: dict[str, np.ndarray]
    patients: list[str]
    embeddings: np.ndarray | None


class Evaluator:
    """Hold what all magnifications share; ``run`` gives the evaluation and patches for pictures.

    Args:
        generator: the trained model with its autoencoder and, for row ``generated``, the embedding diffusion model.
        untrained: the same network before training, for row ``untrained``.
        descriptors: the first one judges.
        identity: hashes of what synthetic patches depend on: ``model``, ``autoencoder``, ``edm``, ``data``.
        folder: where synthetic patches are kept, None to keep none.
        encoder: the encoder that conditions the model; measures conditioning fidelity at the base magnification, and
            tells which descriptor flatters.
    """

    def __init__(
        self,
        *,
        generator: PatchGenerator,
        source: PatchSource,
        descriptors: Sequence[Descriptor],
        ladder: Ladder,
        plan: Plan,
        identity: dict[str, str | None],
        untrained: LatentModel | None = None,
        folder: Path | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.generator, self.source, self.ladder, self.plan = generator, source, ladder, plan
        self.descriptors, self.identity, self.encoder = list(descriptors), identity, encoder
        self.store = PatchStore(folder) if folder is not None else None
        self.examples = Examples()
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.untrained = untrained and PatchGenerator(
            untrained,
            generator.autoencoder,
            steps=generator.steps,
            guidance_scale=generator.guidance_scale,
            seed=generator.seed,
            device=generator.device,
        )
        self.rows = [row for row in ROWS if row in plan.rows and self._can_have(row)]

    def run(self, *, run_name: str, step: int | None = None, **facts: Any) -> Evaluation:
        """Evaluate every magnification that has enough patches; ``facts`` are further fields of ``Evaluation``."""
        wanted = self.plan.magnifications or self.ladder.magnifications
        rungs = [rung for rung in (self.ladder.rung_of(m) for m in wanted) if self._has_enough(rung)]
        if not rungs:
            raise UserError(
                f"no magnification has {2 * MIN_PATCHES} training patches, so there is nothing to evaluate; "
                "prepare more slides or a lower tissue threshold"
            )
        nums = {rung.label: self._num(rung) for rung in rungs}
        synthetic = [row for row in self.rows if row in SYNTHETIC_ROWS]
        evaluation = Evaluation(
            run_name=run_name,
            step=step,
            row_ids=self.row_ids(),
            magnifications=[rung.label for rung in rungs],
            descriptors=[self._info(descriptor) for descriptor in self.descriptors],
            reference_ids={label: self._reference_id(label, num) for label, num in nums.items()},
            cells={one.distance_name: {row: {} for row in self.rows} for one in self.descriptors},
            **facts,
        )
        evaluation.settings |= {
            "patches a magnification, at most": self.plan.num_per_magnification,
            "patches a row": nums,
            "DDIM steps": self.generator.steps,
            "guidance scale": self.generator.guidance_scale,
            "seed": self.plan.seed,
        }
        with progress(total=sum(nums.values()) * len(synthetic), label="synthetic patches", unit="patch") as bar:
            for rung in rungs:
                self._evaluate_rung(evaluation, rung, bar)
        evaluation.claims = claims_of(evaluation)
        evaluation.notes = [*evaluation.notes, *dict.fromkeys(self.notes)]
        evaluation.seconds = {row: round(seconds, 2) for row, seconds in self.seconds.items()}
        return evaluation

    def row_ids(self) -> dict[str, str]:
        """Hash, for each row, all that its figures depend on: the same means that they need not be computed again."""
        generator, plan = self.generator, self.plan
        common = {
            **{name: value for name, value in self.identity.items() if name != "edm"},
            "descriptors": [one.fingerprint for one in self.descriptors],
            "plan": [plan.num_per_magnification, plan.magnifications and list(plan.magnifications), plan.seed],
            "batch": plan.batch_size,
            "sampling": [generator.steps, generator.guidance_scale, generator.seed],
            "counts": [self.source.count(split, m) for split in ("train", "test") for m in self.ladder.magnifications],
        }
        of_edm = [self.identity.get("edm"), generator.edm_steps, generator.edm_guidance_scale]
        return {row: identity_hash({**common, "edm": of_edm if row == "generated" else None}) for row in self.rows}

    def _reference_id(self, label: str, num: int) -> str:
        content = {"data": self.identity.get("data"), "seed": self.plan.seed, "magnification": label, "num": num}
        return identity_hash(content | {"judge": self.descriptors[0].fingerprint})

    def _evaluate_rung(self, evaluation: Evaluation, rung: Rung, bar: Any) -> None:
        num = self._num(rung)
        half = self._conditioning_half(rung, num)
        reference = self._describe_real("train", rung, num=num, skip=num)
        held_out = None
        if "held_out" in self.rows or any(row in SYNTHETIC_ROWS for row in self.rows):
            held_out = self._describe_real("test", rung, num=min(num, self.source.count("test", rung.magnification)))
        train = {name: np.concatenate([half.features[name], reference[name]]) for name in reference}
        for row in self.rows:
            started = time.monotonic()
            if row == "halves":
                features, pairs = half.features, reference
            elif row == "held_out":
                if held_out is None:
                    continue
                features, pairs = held_out, None
            else:
                features = self._describe_row(evaluation, row, rung, num, half, bar)
                pairs = half.features if row in PAIRED_ROWS else None
            for descriptor in self.descriptors:
                name = descriptor.distance_name
                evaluation.cells[name][row][rung.label] = self._cell(
                    descriptor, features[name], reference[name], None if pairs is None else pairs[name]
                )
            judge = self.descriptors[0].distance_name
            if row in ("oracle", "generated") and held_out is not None and len(held_out[judge]) >= MIN_PATCHES:
                evaluation.memorisation.setdefault(row, {})[rung.label] = distances.memorisation(
                    features[judge], train[judge], held_out[judge]
                )
            self.seconds[row] = self.seconds.get(row, 0.0) + time.monotonic() - started

    def _cell(
        self, descriptor: Descriptor, features: np.ndarray, reference: np.ndarray, pairs: np.ndarray | None
    ) -> Cell:
        extra: dict[str, Any] = {}
        if self.plan.kid_and_recall:
            precision, recall = distances.precision_recall(features, reference)
            extra = {"kid": distances.kid(features, reference), "precision": precision, "recall": recall}
        return Cell(
            num=len(features),
            num_reference=len(reference),
            judged=distances.is_judged(len(features), len(reference), descriptor.dim),
            distance=distances.jackknife(distances.frechet, features, reference),
            paired=None if pairs is None else distances.jackknife(distances.paired, features, pairs),
            **extra,
        )

    def _conditioning_half(self, rung: Rung, num: int) -> _Half:
        parts: dict[str, list[np.ndarray]] = {one.distance_name: [] for one in self.descriptors}
        patients, embeddings, first = [], [], []
        for batch in self._batches("train", rung, num=num, columns=("image", "meta")):
            images = images_of(batch)
            self._append(parts, images)
            patients += [str(getattr(one, "patient", one)) for one in batch.meta or batch.keys]
            if self._measures_fidelity(rung):
                embeddings.append(encode_in_batches(self.encoder, images))
            if sum(map(len, first)) < self.plan.num_examples:
                first.append(images)
        self.examples.put("reference", rung.label, np.concatenate(first)[: self.plan.num_examples])
        features = {name: np.concatenate(rows) for name, rows in parts.items()}
        return _Half(features, patients, np.concatenate(embeddings) if embeddings else None)

    def _describe_real(self, split: str, rung: Rung, *, num: int, skip: int = 0) -> dict[str, np.ndarray] | None:
        """Describe real patches by every descriptor; None where there are fewer than 8."""
        if num < MIN_PATCHES:
            self.notes.append(f"{rung.label}: {num} held-out patches, so there is no row for them")
            return None
        parts: dict[str, list[np.ndarray]] = {one.distance_name: [] for one in self.descriptors}
        for batch in self._batches(split, rung, num=num, skip=skip, columns=("image",)):
            self._append(parts, images_of(batch))
        return {name: np.concatenate(rows) for name, rows in parts.items()}

    def _describe_row(
        self, evaluation: Evaluation, row: str, rung: Rung, num: int, half: _Half, bar: Any
    ) -> dict[str, np.ndarray]:
        """Make a row's patches chunk by chunk and describe them, in the order of the conditioning half."""
        parts: dict[str, list[np.ndarray]] = {one.distance_name: [] for one in self.descriptors}
        first, embeddings = [], []
        belongs_to = self._shuffle(rung, half.patients) if row == "shuffled" else np.arange(num)
        for images in self._images_of_row(row, rung, num, belongs_to, bar):
            self._append(parts, images)
            if sum(map(len, first)) < self.plan.num_examples:
                first.append(images)
            if half.embeddings is not None and row in PAIRED_ROWS:
                embeddings.append(encode_in_batches(self.encoder, images))
        order = np.argsort(belongs_to)
        if row != "shuffled":
            self.examples.put(row, rung.label, np.concatenate(first)[: self.plan.num_examples])
        if embeddings:
            cosines = distances.cosine(np.concatenate(embeddings)[order], half.embeddings)
            error = float(cosines.std(ddof=1) / np.sqrt(len(cosines)))
            evaluation.fidelity.setdefault(row, {})[rung.label] = Measure(float(cosines.mean()), error)
        return {name: np.concatenate(rows)[order] for name, rows in parts.items()}

    def _images_of_row(self, row: str, rung: Rung, num: int, belongs_to: np.ndarray, bar: Any) -> Iterator[np.ndarray]:
        """Yield a row's patches in chunks, in the order of the conditions; ``belongs_to[j]`` is condition j's place."""
        size = self.plan.batch_size
        if row == "reconstructions":
            for batch in self._batches("train", rung, num=num, columns=("image",)):
                yield self.generator.reconstruct(images_of(batch))
            return
        identity = self._row_identity(row, num)
        spans = [(start, min(start + size, num)) for start in range(0, num, size)]
        missing = {
            index
            for index, (start, stop) in enumerate(spans)
            if self.store is None or not self.store.has(row, rung.label, identity, index, stop - start)
        }
        conditions = iter(())
        if missing and row != "generated":
            columns = ("grid",) if self.generator.uses_grid else ("meta",)
            conditions = self._batches("train", rung, num=num, columns=columns)
        generator = self.untrained if row == "untrained" else self.generator
        for index, (start, stop) in enumerate(spans):
            batch = next(conditions, None)
            numbers = [sample_number(rung, place) for place in belongs_to[start:stop]]

            def make(batch: Batch | None = batch, numbers: list[int] = numbers) -> np.ndarray:
                return (
                    generator.from_edm(rung.index, numbers) if batch is None else generator.from_batch(batch, numbers)
                )

            if index in missing:
                images = (
                    self.store.chunk(row, rung.label, identity, index, stop - start, make) if self.store else make()
                )
                bar.update(stop - start)
            else:
                images = self.store.chunk(row, rung.label, identity, index, stop - start, make)
                bar.total -= stop - start
                bar.refresh()
            yield images
        if self.store is not None:
            self.store.prune(row, rung.label, identity)

    def _row_identity(self, row: str, num: int) -> str:
        """Hash all that a row's patches depend on; the number of patches matters only to the shuffling."""
        generator = self.generator
        content: dict[str, Any] = {name: self.identity.get(name) for name in ("model", "autoencoder", "data")}
        content |= {"steps": generator.steps, "guidance": generator.guidance_scale, "noise seed": generator.seed}
        content |= {"row": row, "seed": self.plan.seed, "batch": self.plan.batch_size}
        if row == "generated":
            content |= {"edm": self.identity.get("edm"), "edm steps": generator.edm_steps}
            content |= {"edm guidance": generator.edm_guidance_scale}
        if row == "shuffled":
            content |= {"num": num}
        return identity_hash(content)

    def _shuffle(self, rung: Rung, patients: Sequence[str]) -> np.ndarray:
        belongs_to, num_same = shuffle_among(patients, np.random.default_rng([self.plan.seed, rung.index]))
        if num_same:
            self.notes.append(
                f"{rung.label}: {num_same} of {len(patients)} shuffled conditions come from another patch of the same "
                "patient, since one patient has most of the patches"
            )
        return belongs_to

    def _batches(self, split: str, rung: Rung, *, num: int, columns: Sequence[str], skip: int = 0) -> Iterator[Batch]:
        return self.source.batches(
            split=split,
            magnification=rung.magnification,
            num=num,
            skip=skip,
            seed=self.plan.seed,
            columns=columns,
            batch_size=self.plan.batch_size,
        )

    def _append(self, parts: dict[str, list[np.ndarray]], images: np.ndarray) -> None:
        for descriptor in self.descriptors:
            parts[descriptor.distance_name].append(descriptor(images))

    def _num(self, rung: Rung) -> int:
        return min(self.plan.num_per_magnification, self.source.count("train", rung.magnification) // 2)

    def _has_enough(self, rung: Rung) -> bool:
        num, wanted = self._num(rung), self.plan.num_per_magnification
        if num < wanted:
            what = "left out" if num < MIN_PATCHES else f"evaluated with {num} instead of {wanted}"
            have = self.source.count("train", rung.magnification)
            self.notes.append(f"{rung.label}: {have} training patches, two halves are needed; {what}")
        return num >= MIN_PATCHES

    def _can_have(self, row: str) -> bool:
        reason = None
        if row == "generated" and self.generator.edm is None:
            reason = "no embedding diffusion model was given"
        if row == "untrained" and self.untrained is None:
            reason = "no untrained model was given"
        if row == "shuffled" and not self.generator.uses_grid:
            reason = "the model's condition is the magnification alone, so there is nothing to shuffle"
        if reason:
            self.notes.append(f"row {ROWS[row]!r} left out: {reason}")
        return reason is None

    def _info(self, descriptor: Descriptor) -> DescriptorInfo:
        return DescriptorInfo(
            name=descriptor.name,
            distance_name=descriptor.distance_name,
            dim=descriptor.dim,
            fingerprint=descriptor.fingerprint,
            conditions_model=self.encoder is not None
            and self.generator.uses_grid
            and self.encoder.name == descriptor.name,
        )

    def _measures_fidelity(self, rung: Rung) -> bool:
        return self.encoder is not None and rung.index == 0


def shuffle_among(patients: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Permute so that each condition goes to a patch of another patient, as far as there are others.

    Conditions are put in a random order within each patient, patient after patient, and turned by the size of the
    largest patient. Returns (the place that condition j goes to, int64 (n,); how many stay within their patient).
    """
    names = np.asarray(patients)
    shuffled = rng.permutation(len(names))
    order = shuffled[np.argsort(names[shuffled], kind="stable")]
    turn = int(np.unique(names, return_counts=True)[1].max()) if len(names) else 0
    turn = turn if turn < len(names) else 1
    belongs_to = np.empty(len(names), np.int64)
    belongs_to[order] = np.roll(order, turn)
    return belongs_to, int((names == names[belongs_to]).sum())


def sample_number(rung: Rung, place: int) -> int:
    """Return the number that keys a patch's noise: its magnification and its place, so that rows share their noise."""
    return rung.index * 10**9 + int(place)


def images_of(batch: Batch) -> np.ndarray:
    """Return a batch's patches as uint8 (b, p, p, 3)."""
    return np.ascontiguousarray(batch.image.permute(0, 2, 3, 1).cpu().numpy())
