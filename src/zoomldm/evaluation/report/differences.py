"""What a comparison of runs shows beside distances: differences beyond their errors, the best, further metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from zoomldm.evaluation.claims import DOES_NOT_HOLD, HOLDS, verdict
from zoomldm.evaluation.errors import Measure, difference
from zoomldm.evaluation.report.page import Table
from zoomldm.evaluation.report.tables import format_measure, format_measures
from zoomldm.evaluation.result import FRECHET, KERNEL, MAIN_ROW, Evaluation

MOST_ROWS = 6
"""Up to so many runs every pair is a row; of more, each against the first."""


def gap_between(a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    """Return by how much ``a`` lies above ``b`` at a magnification, by what judges both; None where nothing does."""
    cells = [one.cell(MAIN_ROW, label) for one in (a, b)]
    if any(cell is None or not cell.judged for cell in cells):
        return None
    estimator = FRECHET if {cell.judged_by for cell in cells} == {FRECHET} else KERNEL
    of_a, of_b = (cell.by(estimator) for cell in cells)
    if of_a is None or of_b is None:
        return None
    return difference(of_a, of_b, same_samples=a.reference_ids.get(label) == b.reference_ids.get(label))


def table_of_differences(runs: Mapping[str, Evaluation], labels: Sequence[str]) -> Table | None:
    """Return pairs of runs × magnifications; what exceeds two standard errors has a star. None for a single run."""
    names = list(runs)
    pairs = list(combinations(names, 2)) if len(names) <= MOST_ROWS else [(names[0], name) for name in names[1:]]
    body, num, num_beyond = [], 0, 0
    for a, b in pairs:
        gaps = [gap_between(runs[a], runs[b], label) for label in labels]
        beyond = [gap is not None and verdict(gap) in (HOLDS, DOES_NOT_HOLD) for gap in gaps]
        num, num_beyond = num + sum(gap is not None for gap in gaps), num_beyond + sum(beyond)
        if any(gap is not None for gap in gaps):
            body.append([f"{a} - {b}", *(format_measure(gap) + " *" * is_so for gap, is_so in zip(gaps, beyond))])
    caption = (
        f"Positive: the second is nearer to real patches. * exceeds two standard errors (patients and, where they were "
        f"averaged, seeds): {num_beyond} of {num}; about one in twenty would by chance."
    )
    return Table(["difference", *labels], body, [""] * len(body), caption) if body else None


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
