"""What a comparison of runs shows beside distances: differences beyond their errors, the best, further metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from zoomldm.evaluation.claims import DOES_NOT_HOLD, HOLDS, same_samples, verdict
from zoomldm.evaluation.errors import Measure, difference
from zoomldm.evaluation.report.page import Table
from zoomldm.evaluation.report.tables import format_measure, format_measures
from zoomldm.evaluation.result import FAR_ROW, FRECHET, KERNEL, MAIN_ROW, Evaluation, RowInfo

MOST_ROWS = 6
"""Up to so many runs every pair is a row; of more, each against the first."""
FURTHER = {
    "difference, to held-out patients": "unseen.frechet",
    "difference, each patch to its own reference": "paired",
}
"""Further measures of the main row that runs are set against each other by, where both have them."""


def gap_between(a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    """Return by how much ``a`` lies above ``b`` at a magnification, by what judges both; None where nothing does."""
    return _gap(a, b, label, (MAIN_ROW, MAIN_ROW))


def _gap(a: Evaluation, b: Evaluation, label: str, rows: tuple[str, str]) -> Measure | None:
    cells = [one.cell(row, label) for one, row in zip((a, b), rows)]
    if any(cell is None or not cell.judged for cell in cells):
        return None
    estimator = FRECHET if {cell.judged_by for cell in cells} == {FRECHET} else KERNEL
    return _difference([cell.by(estimator) for cell in cells], a, b, label)


def _gap_of(measure: str, a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    """Return by how much a further measure of ``a`` lies above that of ``b``; None where errors are unknown."""
    cells = [one.cell(MAIN_ROW, label) for one in (a, b)]
    measures = [cell and cell.measures.get(measure) for cell in cells]
    known = all(one is not None and one.value is not None and one.error is not None for one in measures)
    return _difference(measures, a, b, label) if known else None


def _difference(measures: Sequence[Measure | None], a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    of_a, of_b = measures
    if of_a is None or of_b is None:
        return None
    return difference(of_a, of_b, same_samples=same_samples(a, b, label))


def tables_of_differences(runs: Mapping[str, Evaluation], labels: Sequence[str]) -> list[Table]:
    """Return what exceeds two standard errors, with a star: between runs, and between rows of a run and its main one.

    Runs are set against each other by their distance and, where they were taken, by the measures of ``FURTHER``.
    """
    names = list(runs)
    pairs = list(combinations(names, 2)) if len(names) <= MOST_ROWS else [(names[0], name) for name in names[1:]]
    found = {"difference": {f"{a} - {b}": [gap_between(runs[a], runs[b], x) for x in labels] for a, b in pairs}}
    for title, measure in FURTHER.items():
        found[title] = {f"{a} - {b}": [_gap_of(measure, runs[a], runs[b], x) for x in labels] for a, b in pairs}
    found["difference, within a run"] = {
        f"{name}, {row.title} - {run.row(MAIN_ROW).title}": [_gap(run, run, x, (row.name, MAIN_ROW)) for x in labels]
        for name, run in runs.items()
        for row in _asked_otherwise(run)
    }
    tables = [_starred(title, gaps, labels) for title, gaps in found.items()]
    return [table for table in tables if table]


def _asked_otherwise(run: Evaluation) -> list[RowInfo]:
    """Return the rows of a trained model beside its main one: other settings, generated or wrong conditions."""
    rows = [row for row in run.row_infos if row.is_synthetic and row.name not in (MAIN_ROW, FAR_ROW)]
    return rows if MAIN_ROW in run.rows else []


def _starred(title: str, gaps: Mapping[str, Sequence[Measure | None]], labels: Sequence[str]) -> Table | None:
    body, num, num_beyond = [], 0, 0
    for name, row in gaps.items():
        beyond = [gap is not None and verdict(gap) in (HOLDS, DOES_NOT_HOLD) for gap in row]
        num, num_beyond = num + sum(gap is not None for gap in row), num_beyond + sum(beyond)
        if any(gap is not None for gap in row):
            body.append([name, *(format_measure(gap) + " *" * is_so for gap, is_so in zip(row, beyond))])
    caption = (
        f"Positive: the second is nearer to real patches. * exceeds two standard errors (patients and, where they were "
        f"averaged, seeds): {num_beyond} of {num}; about one in twenty would by chance."
    )
    return Table([title, *labels], body, [""] * len(body), caption) if body else None


def further_tables(runs: Mapping[str, Evaluation], labels: Sequence[str]) -> list[Table]:
    """Return runs × magnifications of each further metric (copying, held-out patients, recall) of the main row."""
    infos = {info.name: info for run in runs.values() for info in run.metric_infos if info.section != "pairs"}
    tables = []
    for info in infos.values():
        found = {name: run.measured(info.name).get(MAIN_ROW, {}) for name, run in runs.items()}
        body = [
            [name, *(format_measures(by_label.get(label), info.template) for label in labels)]
            for name, by_label in found.items()
            if by_label
        ]
        if body:
            tables.append(Table([info.title, *labels], body, [""] * len(body), info.caption))
    return tables


def best_of(runs: Mapping[str, Evaluation], labels: Sequence[str]) -> list[str]:
    """Say which run is the nearest to real patches at each magnification, and whether beyond its error."""
    said = []
    for label in labels:
        cells = {name: run.cell(MAIN_ROW, label) for name, run in runs.items()}
        judged = {name: cell.by(cell.judged_by) for name, cell in cells.items() if cell is not None and cell.judged}
        order = sorted(judged, key=lambda name: judged[name].value)
        if len(order) < 2:
            continue
        gap = gap_between(runs[order[1]], runs[order[0]], label)
        how = "beyond the error" if gap is not None and verdict(gap) == HOLDS else "not separated"
        said.append(f"best at {label}: {order[0]} {format_measure(judged[order[0]])}, then {order[1]} ({how})")
    return said
