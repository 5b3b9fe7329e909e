"""Evaluate a trained ZoomLDM per magnification: every row against the same half of the real training patches.

At each magnification 2n training patches are drawn. Half B gives the conditions, the reconstructions and the row
``halves``; half A is the reference of every row. So all rows have the same n and the same other side, and ``halves`` is
what two sets of real patches make of it.
"""

import time
from collections.abc import Sequence
from typing import Any

from zoomldm.errors import UserError
from zoomldm.evaluation import distances
from zoomldm.evaluation.bench import MIN_PATCHES, Bench, Described, ProgressBar, RungData, Vectors
from zoomldm.evaluation.claims import claims_of
from zoomldm.evaluation.errors import jackknife
from zoomldm.evaluation.metrics.base import Compared, Metric
from zoomldm.evaluation.result import Cell, DescriptorInfo, Evaluation
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.store import identity_hash
from zoomldm.features.base import Descriptor
from zoomldm.files import progress
from zoomldm.ladder import Ladder, Rung


class Evaluator:
    """Compare rows with real patches, magnification by magnification.

    Args:
        rows: in the order of the table; those that cannot be had (no embedding diffusion model) are left out with a
            note.
        metrics: measured beside the Fréchet distance.
    """

    def __init__(self, bench: Bench, ladder: Ladder, *, rows: Sequence[Row], metrics: Sequence[Metric]) -> None:
        self.bench, self.ladder, self.metrics = bench, ladder, list(metrics)
        self.rows: list[Row] = []
        for row in rows:
            if reason := row.why_not(bench):
                bench.notes.append(f"row {row.title!r} left out: {reason}")
            else:
                self.rows.append(row)

    def run(self, *, run_name: str, step: int | None = None, **facts: Any) -> Evaluation:
        """Evaluate every magnification that has enough patches; ``facts`` are further fields of ``Evaluation``."""
        bench, plan = self.bench, self.bench.plan
        wanted = plan.magnifications or self.ladder.magnifications
        nums = {rung: self._num(rung) for rung in map(self.ladder.rung_of, wanted) if self._has_enough(rung)}
        if not nums:
            raise UserError(
                f"no magnification has {2 * MIN_PATCHES} training patches, so there is nothing to evaluate; "
                "prepare more slides or a lower tissue threshold"
            )
        evaluation = Evaluation(
            run_name=run_name,
            step=step,
            magnifications=[rung.label for rung in nums],
            descriptors=[self._descriptor_info(descriptor) for descriptor in bench.descriptors],
            row_infos=[row.info() for row in self.rows],
            metric_infos=[metric.info() for metric in self.metrics],
            row_ids=self.row_ids(),
            reference_ids={rung.label: self._reference_id(rung, num) for rung, num in nums.items()},
            cells={one.distance_name: {row.name: {} for row in self.rows} for one in bench.descriptors},
            **facts,
        )
        evaluation.settings |= {
            "patches a magnification, at most": plan.num_per_magnification,
            "patches a row": {rung.label: num for rung, num in nums.items()},
            **bench.generator.facts(),
            "seed": plan.seed,
        }
        num_synthetic = sum(row.is_synthetic for row in self.rows)
        with progress(total=sum(nums.values()) * num_synthetic, label="synthetic patches", unit="patch") as bar:
            for rung, num in nums.items():
                self._evaluate_rung(evaluation, rung, num, bar)
        evaluation.claims = claims_of(evaluation, [claim for row in self.rows for claim in row.expectations])
        evaluation.notes = [*evaluation.notes, *dict.fromkeys(bench.notes)]
        evaluation.seconds = {row: round(seconds, 2) for row, seconds in evaluation.seconds.items()}
        return evaluation

    def row_ids(self) -> dict[str, str]:
        """Hash, for each row, all that its figures depend on: the same means that they need not be computed again."""
        bench, plan = self.bench, self.bench.plan
        counts = [bench.source.count(split, m) for split in ("train", "test") for m in self.ladder.magnifications]
        common = {
            **{name: value for name, value in bench.identity.items() if name != "edm"},
            "descriptors": [one.fingerprint for one in bench.descriptors],
            "metrics": [[type(metric).__qualname__, vars(metric)] for metric in self.metrics],
            "plan": [plan.num_per_magnification, plan.magnifications and list(plan.magnifications), plan.seed],
            "batch": plan.batch_size,
            "sampling": bench.generator.facts(),
            "counts": counts,
        }
        return {row.name: identity_hash({**common, "row depends on": row.depends_on(bench)}) for row in self.rows}

    def _reference_id(self, rung: Rung, num: int) -> str:
        content = {"data": self.bench.identity.get("data"), "seed": self.bench.plan.seed}
        content |= {"magnification": rung.label, "num": num}
        return identity_hash(content | {"judge": self.bench.descriptors[0].fingerprint})

    def _evaluate_rung(self, evaluation: Evaluation, rung: Rung, num: int, bar: ProgressBar) -> None:
        wants_embeddings = any(metric.needs_embeddings for metric in self.metrics)
        data = RungData(self.bench, rung, num, bar=bar, wants_embeddings=wants_embeddings)
        for row in self.rows:
            started = time.monotonic()
            described = row.described(data)
            if described is None:
                continue
            pairs = row.pairs(data)
            for descriptor in self.bench.descriptors:
                cell = self._cell(descriptor, row, data, described, pairs)
                evaluation.cells[descriptor.distance_name][row.name][rung.label] = cell
            evaluation.seconds[row.name] = evaluation.seconds.get(row.name, 0.0) + time.monotonic() - started

    def _cell(
        self, descriptor: Descriptor, row: Row, data: RungData, described: Described, pairs: Vectors | None
    ) -> Cell:
        name = descriptor.distance_name
        vectors, reference = described.vectors[name], data.reference[name]
        compared = Compared(
            row=row.info(),
            vectors=vectors,
            reference=reference,
            pairs=None if pairs is None else pairs[name],
            embeddings=described.embeddings,
            paired_embeddings=data.half.embeddings if row.is_paired else None,
            _training=lambda: data.training[name],
            _held_out=lambda: None if data.held_out is None else data.held_out[name],
        )
        measures: dict[str, Any] = {}
        for metric in self.metrics:
            if descriptor is self.bench.descriptors[0] or not metric.of_judge:
                measures |= metric.named(compared)
        return Cell(
            num=len(vectors),
            num_reference=len(reference),
            judged=distances.is_judged(len(vectors), len(reference), descriptor.dim),
            distance=jackknife(distances.frechet, vectors, reference),
            measures=measures,
        )

    def _num(self, rung: Rung) -> int:
        return min(self.bench.plan.num_per_magnification, self.bench.source.count("train", rung.magnification) // 2)

    def _has_enough(self, rung: Rung) -> bool:
        num, wanted = self._num(rung), self.bench.plan.num_per_magnification
        if num < wanted:
            what = "left out" if num < MIN_PATCHES else f"evaluated with {num} instead of {wanted}"
            have = self.bench.source.count("train", rung.magnification)
            self.bench.notes.append(f"{rung.label}: {have} training patches, two halves are needed; {what}")
        return num >= MIN_PATCHES

    def _descriptor_info(self, descriptor: Descriptor) -> DescriptorInfo:
        return DescriptorInfo(
            name=descriptor.name,
            distance_name=descriptor.distance_name,
            dim=descriptor.dim,
            fingerprint=descriptor.fingerprint,
            conditions_model=self.bench.generator.uses_grid and descriptor.name == self.bench.conditioned_on,
        )
