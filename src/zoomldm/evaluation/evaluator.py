"""Evaluate a trained ZoomLDM per magnification: every row against the same real training patches.

At each magnification the protocol draws real training patches: those that give the conditions, the reconstructions and
the row ``halves``, and the reference of every row. So all synthetic rows have the same n, and all rows the same other
side.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from lightning_fabric import Fabric

from zoomldm.errors import UserError
from zoomldm.evaluation import distances
from zoomldm.evaluation.bench import MIN_PATCHES, Bench, Described
from zoomldm.evaluation.claims import claims_of
from zoomldm.evaluation.errors import GROUPS, LEAST_PATIENTS, Members, groups_for, jackknife
from zoomldm.evaluation.extremes import keep_extremes
from zoomldm.evaluation.metrics.base import Compared, Metric
from zoomldm.evaluation.protocols.base import Drawn
from zoomldm.evaluation.result import KERNEL, Cell, DescriptorInfo, Evaluation
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData
from zoomldm.evaluation.store import identity_hash
from zoomldm.evaluation.synthesis import synthesise
from zoomldm.features.base import Descriptor
from zoomldm.ladder import Ladder, Rung

ERRORS = "jackknife over patients"
"""What the stored errors are; figures with others are computed again."""


class Evaluator:
    """Compare rows with real patches, magnification by magnification.

    Args:
        rows: in the order of the table; those that cannot be had are left out with a note.
        metrics: measured beside the Fréchet distance.
    """

    def __init__(self, bench: Bench, ladder: Ladder, *, rows: Sequence[Row], metrics: Sequence[Metric]) -> None:
        self.bench, self.ladder, self.metrics = bench, ladder, list(metrics)
        self._seconds: dict[str, float] = {}
        self.rows: list[Row] = []
        for row in rows:
            if reason := row.why_not(bench):
                bench.notes.append(f"row {row.title!r} left out: {reason}")
            else:
                self.rows.append(row)

    @cached_property
    def drawn(self) -> dict[Rung, Drawn]:
        """What is drawn of each magnification that has enough.

        Raises:
            UserError: none has.
        """
        plan, count = self.bench.plan, self.bench.source.count
        drawn = {
            rung: plan.protocol.drawn(plan.num_per_magnification, count("train", rung.magnification))
            for rung in map(self.ladder.rung_of, plan.magnifications or self.ladder.magnifications)
        }
        drawn = {rung: one for rung, one in drawn.items() if self._has_enough(rung, one)}
        if not drawn:
            raise UserError(
                f"no magnification has {2 * MIN_PATCHES} training patches, so there is nothing to evaluate; "
                "prepare more slides or a lower tissue threshold"
            )
        return drawn

    def synthesise(self, fabric: Fabric) -> None:
        """Make the synthetic patches that are not on disk, shared out over the processes."""
        if self.bench.folder is not None:
            rows = [row for row in self.rows if isinstance(row, SyntheticRow)]
            self._seconds = synthesise(self.bench, rows, self.drawn, fabric)

    def run(self, *, run_name: str, step: int | None = None, **facts: Any) -> Evaluation:
        """Evaluate every magnification that has enough patches; ``facts`` are further fields of ``Evaluation``.

        Patches that ``synthesise`` did not put on disk are made here and not kept.
        """
        bench, plan, drawn = self.bench, self.bench.plan, self.drawn
        evaluation = Evaluation(
            run_name=run_name,
            step=step,
            magnifications=[rung.label for rung in drawn],
            descriptors=[self._descriptor_info(descriptor) for descriptor in bench.descriptors],
            row_infos=[row.info() for row in self.rows],
            metric_infos=[metric.info() for metric in self.metrics],
            row_ids=self.row_ids(),
            reference_ids={rung.label: self._reference_id(rung, one) for rung, one in drawn.items()},
            cells={one.distance_name: {row.name: {} for row in self.rows} for one in bench.descriptors},
            **facts,
        )
        evaluation.seconds |= self._seconds
        evaluation.settings |= {
            "protocol": plan.protocol.name,
            "protocol means": plan.protocol.meaning,
            "patches a magnification, at most": plan.num_per_magnification,
            "patches a row": {rung.label: one.num for rung, one in drawn.items()},
            **bench.sampling_facts(),
            "seed": plan.seed,
        }
        for rung, one in drawn.items():
            self._evaluate_rung(evaluation, rung, one)
        evaluation.claims = claims_of(evaluation, [claim for row in self.rows for claim in row.expectations])
        evaluation.notes = [*evaluation.notes, *dict.fromkeys(bench.notes)]
        evaluation.seconds = {row: round(seconds, 2) for row, seconds in evaluation.seconds.items()}
        return evaluation

    def row_ids(self) -> dict[str, str]:
        """Hash, for each row, all that its figures depend on: the same means that they need not be computed again."""
        bench, plan, magnifications = self.bench, self.bench.plan, self.ladder.magnifications
        common = {
            **{name: value for name, value in bench.identity.items() if name != "edm"},
            "descriptors": [one.fingerprint for one in bench.descriptors],
            "metrics": [[type(metric).__qualname__, vars(metric)] for metric in self.metrics],
            "plan": [plan.num_per_magnification, plan.magnifications and list(plan.magnifications), plan.seed],
            "protocol": plan.protocol.name,
            "errors": ERRORS,
            "batch": plan.batch_size,
            "sampling": bench.generator.facts(),
            "counts": [bench.source.count(split, m) for split in ("train", "test") for m in magnifications],
        }
        return {row.name: identity_hash({**common, "row depends on": row.depends_on(bench)}) for row in self.rows}

    def _reference_id(self, rung: Rung, drawn: Drawn) -> str:
        content = {"data": self.bench.identity.get("data"), "seed": self.bench.plan.seed, "magnification": rung.label}
        judge = self.bench.descriptors[0].fingerprint
        return identity_hash(content | {"drawn": asdict(drawn), "errors": ERRORS, "judge": judge})

    def _evaluate_rung(self, evaluation: Evaluation, rung: Rung, drawn: Drawn) -> None:
        data = RungData(self.bench, rung, drawn, wants_embeddings=any(one.needs_embeddings for one in self.metrics))
        for row in self.rows:
            started = time.monotonic()
            described = row.described(data)
            if described is None:
                continue
            pairs = row.pairs(data)
            for descriptor in self.bench.descriptors:
                cell = self._cell(descriptor, row, data, described, pairs)
                evaluation.cells[descriptor.distance_name][row.name][rung.label] = cell
            keep_extremes(row, data, described, pairs)
            evaluation.seconds[row.name] = evaluation.seconds.get(row.name, 0.0) + time.monotonic() - started
        evaluation.drawn[rung.label], evaluation.reference_patches[rung.label] = self._facts(data), data.fingerprint

    def _cell(
        self, descriptor: Descriptor, row: Row, data: RungData, described: Described, pairs: Described | None
    ) -> Cell:
        compared = _compared(descriptor.distance_name, row, data, described, pairs)
        vectors, reference, dim = compared.vectors, compared.reference, descriptor.dim
        measures: dict[str, Any] = {}
        for metric in self.metrics:
            if descriptor is self.bench.descriptors[0] or not metric.of_judge:
                measures |= metric.named(compared)
        return Cell(
            num=len(vectors),
            num_reference=len(reference),
            judged_by=_judge(len(vectors), len(reference), dim, measures),
            distance=jackknife(distances.frechet, vectors, reference, _members(data, described, groups_for(dim))),
            measures=measures,
        )

    def _has_enough(self, rung: Rung, drawn: Drawn) -> bool:
        """Tell whether there is anything to compare, and note where it is less than was asked for.

        Raises:
            UserError: there is not, at a magnification that was asked for by name.
        """
        plan, have = self.bench.plan, self.bench.source.count("train", rung.magnification)
        if drawn.num_conditions < MIN_PATCHES and plan.magnifications:
            raise UserError(
                f"magnifications: {rung.label} has {have} training patches, evaluation={plan.protocol.name} leaves "
                f"{drawn.num_conditions} for a row and needs {MIN_PATCHES}; leave it out, or prepare more slides or a "
                "lower data.min_tissue"
            )
        if drawn.num_conditions < MIN_PATCHES:
            self.bench.notes.append(f"{rung.label}: {have} training patches; left out")
            return False
        if drawn.num < plan.num_per_magnification:
            what = f"evaluated with {drawn.num} instead of {plan.num_per_magnification}"
            self.bench.notes.append(f"{rung.label}: {have} training patches, two halves are needed; {what}")
        if drawn.num_shared:
            self.bench.notes.append(
                f"{rung.label}: {have} training patches; {drawn.num_shared} of the {drawn.num_reference} patches of "
                "the reference also give conditions, so there are no two sets of real patches to compare as a floor"
            )
        return True

    def _facts(self, data: RungData) -> dict[str, str]:
        """Return what the report says of the numbers behind a magnification's figures."""
        drawn, groups = data.drawn, data.groups
        if not groups.are_patients:
            self.bench.notes.append(
                f"{data.rung.label}: errors are over patches, since there are {groups.num_patients} patients and "
                f"{LEAST_PATIENTS} are needed: they say nothing of other patients"
            )
        return {
            "real patches that give conditions": f"{drawn.num_conditions:,}",
            "times that a condition is used, at most": str(-(-drawn.num // drawn.num_conditions)),
            "real patches of the reference": f"{drawn.num_reference:,}",
            "of them, also give conditions": f"{drawn.num_shared:,}",
            "images of real patches": "lossless (column reference)" if data.is_lossless else "as stored for training",
            "errors are a jackknife over": str(groups),
        }

    def _descriptor_info(self, descriptor: Descriptor) -> DescriptorInfo:
        return DescriptorInfo(
            name=descriptor.name,
            distance_name=descriptor.distance_name,
            dim=descriptor.dim,
            fingerprint=descriptor.fingerprint,
            conditions_model=self.bench.generator.uses_grid and descriptor.name == self.bench.conditioned_on,
        )


def _compared(name: str, row: Row, data: RungData, described: Described, pairs: Described | None) -> Compared:
    num = len(described)
    pairs = None if pairs is None else pairs.repeated(num)
    return Compared(
        row=row.info(),
        vectors=described.vectors[name],
        reference=data.reference.vectors[name],
        pairs=None if pairs is None else pairs.vectors[name],
        members=_members(data, described),
        pair_members=data.groups.of(data.half.repeated(num).patients if row.is_paired else (), num),
        embeddings=described.embeddings,
        paired_embeddings=data.half.repeated(num).embeddings if row.is_paired else None,
        _training=lambda: data.training,
        _held_out=lambda: data.held_out_as(name),
    )


def _members(data: RungData, described: Described, most: int = GROUPS) -> Members:
    """Return the group of each patch of a row and of each of the reference."""
    reference = data.reference
    return (
        data.groups.of(described.patients, len(described), most),
        data.groups.of(reference.patients, len(reference), most),
    )


def _judge(num: int, num_reference: int, dim: int, measures: Mapping[str, Any]) -> str:
    """Return the estimator of a verdict; none where it would be one that was not measured."""
    judge = distances.judge_of(num, num_reference, dim)
    return judge if judge != KERNEL or KERNEL in measures else ""
