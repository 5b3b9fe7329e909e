"""What an evaluation found: dataclasses that become JSON and come back the same.

A result carries what its tables say about its rows and metrics, so that it can be shown where their classes are not.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from zoomldm.evaluation.errors import Measure
from zoomldm.files import write_json

FORMAT_VERSION, KIND = 4, "zoomldm-evaluation"
FRECHET, KERNEL = "frechet", "kid"
"""The estimators that a verdict may rest on."""
MAIN_ROW, FLOOR_ROW, FAR_ROW = "oracle", "halves", "untrained"
"""The row that the summary and comparisons of runs are about, and the rows at the two ends that it lies between."""

T, U = TypeVar("T"), TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class RowInfo:
    """What the report says of a row.

    Attributes:
        title: in tables; paired_title: in the table of pairs; meaning: one sentence; colour: of its line.
        is_synthetic: made by the model; is_paired: each patch has a real one that it belongs to; is_control: synthetic
            and meant to be bad.
    """

    name: str
    title: str
    meaning: str = ""
    colour: str = "#4a4a4a"
    paired_title: str = ""
    is_synthetic: bool = False
    is_paired: bool = False
    is_control: bool = False


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """How the report shows a metric: a table's title and caption and the text of a cell.

    Attributes:
        template: of a cell, with the metric's figures by name (``{precision:.2f} / {recall:.2f}``); empty: each figure
            with its standard error.
        section: ``pairs`` for what compares a patch with its own reference, ``further`` for all else.
    """

    name: str
    title: str
    caption: str = ""
    template: str = ""
    section: str = "further"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row at one magnification in one descriptor, against the reference.

    Attributes:
        num: patches of this row; ``num_reference``: real patches on the other side.
        judged_by: the estimator that verdicts rest on: ``frechet``, the distance, where both sides hold 4 samples a
            dimension; ``kid`` where fewer; "" where too few for either.
        distance: Fréchet distance of the two sets.
        measures: further figures: ``kid``, and ``precision_recall.recall`` for a metric of several.
    """

    num: int
    num_reference: int
    judged_by: str
    distance: Measure
    measures: dict[str, Measure] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether there are enough samples for a verdict by any estimator."""
        return bool(self.judged_by)

    def by(self, estimator: str) -> Measure | None:
        """Return the figure of an estimator."""
        return self.distance if estimator == FRECHET else self.measures.get(estimator)

    @property
    def paired(self) -> Measure | None:
        """The mean squared distance of each patch to its own reference, None for rows without pairs."""
        return self.measures.get("paired")

    def of(self, metric: str) -> dict[str, Measure]:
        """Return a metric's figures by their own names; a single one is called as the metric is."""
        own = [name for name in self.measures if name == metric or name.startswith(f"{metric}.")]
        return {name.removeprefix(f"{metric}."): self.measures[name] for name in own}


@dataclass(frozen=True, kw_only=True)
class DescriptorInfo:
    """The descriptor behind a distance; ``conditions_model``: the model saw it, so it flatters and does not judge."""

    name: str
    distance_name: str
    dim: int
    fingerprint: str
    conditions_model: bool


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement about the figures: ``holds``, ``not separated`` or ``does not hold``, with what it rests on."""

    statement: str
    verdict: str
    details: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Evaluation:
    """All figures of one evaluation.

    Attributes:
        run_name, step: the evaluated run and checkpoint; labels: how a comparison names it (``{"cond": "film"}``).
        magnifications: labels, highest first; descriptors: the first one judges.
        row_infos: the evaluated rows in the order of the table; metric_infos: the further metrics.
        reference_ids: by magnification; equal for two evaluations whose data, halves and judging descriptor agree;
            reference_patches: where the patches themselves do, whatever else their data sets hold ("" unknown).
        cells: distance name → row → magnification → Cell.
        drawn: by magnification, what the report says of the numbers of real patches, of their images and of the errors.
        row_ids: by row a hash of what its figures depend on: checkpoint, data, descriptors, settings.
        data: name, manifest hash, held-out kind, counts; settings: n, steps, guidance, seed.
    """

    run_name: str
    step: int | None
    magnifications: list[str]
    descriptors: list[DescriptorInfo]
    row_infos: list[RowInfo]
    reference_ids: dict[str, str]
    cells: dict[str, dict[str, dict[str, Cell]]]
    metric_infos: list[MetricInfo] = field(default_factory=list)
    drawn: dict[str, dict[str, str]] = field(default_factory=dict)
    reference_patches: dict[str, str] = field(default_factory=dict)
    row_ids: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    hardware: str = ""
    date: str = ""

    @property
    def judge(self) -> DescriptorInfo:
        """The descriptor that the claims rest on."""
        return self.descriptors[0]

    @property
    def rows(self) -> list[str]:
        """The names of the rows that were evaluated, in the order of the table."""
        return [row.name for row in self.row_infos]

    def row(self, name: str) -> RowInfo:
        """Return what is said of a row."""
        return next(row for row in self.row_infos if row.name == name)

    def cell(self, row: str, label: str, distance_name: str | None = None) -> Cell | None:
        """Return one cell of the judging (or the named) distance, None where nothing was evaluated."""
        return self.cells.get(distance_name or self.judge.distance_name, {}).get(row, {}).get(label)

    def measured(self, metric: str) -> dict[str, dict[str, dict[str, Measure]]]:
        """Return a metric's figures in the judging descriptor: row → magnification → name → Measure."""
        found: dict[str, dict[str, dict[str, Measure]]] = {}
        for row, by_label in self.cells[self.judge.distance_name].items():
            for label, cell in by_label.items():
                if of_metric := cell.of(metric):
                    found.setdefault(row, {})[label] = of_metric
        return found

    def judged(self, row: str = MAIN_ROW) -> list[str]:
        """Return the magnifications at which a row has enough samples to be judged, highest first."""
        return [label for label in self.magnifications if (cell := self.cell(row, label)) is not None and cell.judged]

    def summary(self) -> dict[str, float]:
        """Return the distances of the row that runs are compared by, as ``fd_texture/5x`` or ``fid/5x``."""
        return {
            f"{distance.lower()}/{label}": cell.distance.value
            for distance, rows in self.cells.items()
            for label, cell in rows.get(MAIN_ROW, {}).items()
        }

    def metrics(self) -> dict[str, float]:
        """Return ``summary``, all distances as ``fd_texture/oracle/5x``, others as ``fd_texture.kid/oracle/5x``."""
        found = self.summary()
        for distance, rows in self.cells.items():
            for row, by_label in rows.items():
                for label, cell in by_label.items():
                    found[f"{distance}/{row}/{label}"] = cell.distance.value
                    for name, measure in cell.measures.items():
                        if measure.value is not None:
                            found[f"{distance}.{name}/{row}/{label}"] = measure.value
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"format_version": FORMAT_VERSION, "kind": KIND, **_finite(asdict(self))}

    def save(self, path: str | os.PathLike) -> None:
        """Write the evaluation as JSON, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Evaluation":
        """Take back what ``to_dict`` returned, without its version and kind."""
        return cls(
            **{
                **content,
                "descriptors": [DescriptorInfo(**one) for one in content["descriptors"]],
                "row_infos": [RowInfo(**one) for one in content["row_infos"]],
                "metric_infos": [MetricInfo(**one) for one in content["metric_infos"]],
                "cells": _mapped(content["cells"], lambda rows: _mapped(rows, lambda by: _mapped(by, _cell))),
                "claims": [Claim(**{**one, "details": tuple(one["details"])}) for one in content["claims"]],
            }
        )


def _mapped(tree: Mapping[str, T], leaf: Callable[[T], U]) -> dict[str, U]:
    return {name: leaf(value) for name, value in tree.items()}


def _measure(content: dict[str, Any]) -> Measure:
    return Measure(content["value"], content["error"], tuple(content["replicates"]))


def _cell(content: dict[str, Any]) -> Cell:
    measures = _mapped(content["measures"], _measure)
    return Cell(**{**content, "distance": _measure(content["distance"]), "measures": measures})


def _finite(node: Any) -> Any:
    """Replace what JSON cannot hold (nan, infinities) by None."""
    if isinstance(node, dict):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
