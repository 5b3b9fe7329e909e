"""What a comparison of runs shows beside distances: differences beyond their errors, the best, further metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from zoomldm.evaluation.claims import DOES_NOT_HOLD, HOLDS, same_samples, verdict
from zoomldm.evaluation.distances import SAMPLES_PER_DIMENSION
from zoomldm.evaluation.errors import Measure, difference
from zoomldm.evaluation.report.page import Table
from zoomldm.evaluation.report.tables import format_measure, format_measures
from zoomldm.evaluation.result import FAR_ROW, FRECHET, KERNEL, MAIN_ROW, Evaluation, RowInfo

MOST_ROWS = 6
"""Up to so many runs every pair is a row; of more, each against the first."""
NOT_ASKED_OTHERWISE = (FAR_ROW, "shipped", "shuffled")
"""Synthetic rows that are no other way of asking the trained model: another model, or the main row's own patches."""
BETWEEN, HELD_OUT, PAIRED, WITHIN = (
    "difference",
    "difference, to held-out patients",
    "difference, each patch to its own reference",
    "difference, within a run",
)
Gaps = dict[str, dict[str, list[Measure | None]]]
"""By what is compared -> pair -> differences by magnification."""


def gap_between(a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    """Return by how much ``a`` lies above ``b`` at a magnification, by what judges both; None where nothing does."""
    return _gap(a, b, label, (MAIN_ROW, MAIN_ROW))


def _gap(a: Evaluation, b: Evaluation, label: str, rows: tuple[str, str]) -> Measure | None:
    cells = [one.cell(row, label) for one, row in zip((a, b), rows)]
    if any(cell is None or not cell.judged for cell in cells):
        return None
    estimator = FRECHET if {cell.judged_by for cell in cells} == {FRECHET} else KERNEL
    return _difference([cell.by(estimator) for cell in cells], a, b, label)


def _gap_to_held_out(a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    """Return the same to held-out patients: by Fréchet distances where rows have enough patches, else by KID."""
    cells = [one.cell(MAIN_ROW, label) for one in (a, b)]
    if None in cells:
        return None
    enough = min(cell.num for cell in cells) >= SAMPLES_PER_DIMENSION * a.judge.dim
    return _difference([cell.measures.get(f"unseen.{FRECHET if enough else KERNEL}") for cell in cells], a, b, label)


def _gap_of_pairs(a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    cells = [one.cell(MAIN_ROW, label) for one in (a, b)]
    return _difference([cell and cell.paired for cell in cells], a, b, label)


def _difference(measures: Sequence[Measure | None], a: Evaluation, b: Evaluation, label: str) -> Measure | None:
    if any(one is None or one.value is None for one in measures):
        return None
    return difference(*measures, same_samples=same_samples(a, b, label), same_seeds=a is b)


def differences(runs: Mapping[str, Evaluation], labels: Sequence[str], against: str = MAIN_ROW) -> Gaps:
    """Return the differences between runs by each measure that both have, and between a run's rows and one of them.

    Args:
        against: the name of that row; a run that lacks it has no such differences.
    """
    names = list(runs)
    pairs = list(combinations(names, 2)) if len(names) <= MOST_ROWS else [(names[0], name) for name in names[1:]]
    found: Gaps = {}
    for title, gap in ((BETWEEN, gap_between), (HELD_OUT, _gap_to_held_out), (PAIRED, _gap_of_pairs)):
        found[title] = {f"{a} - {b}": [gap(runs[a], runs[b], label) for label in labels] for a, b in pairs}
    found[WITHIN] = {
        f"{name}, {row.title} - {run.row(against).title}": [_gap(run, run, x, (row.name, against)) for x in labels]
        for name, run in runs.items()
        for row in _asked_otherwise(run, against)
    }
    judged = {
        title: {name: row for name, row in by.items() if any(_is_judged(gap) for gap in row)}
        for title, by in found.items()
    }
    return {title: by for title, by in judged.items() if by}


def tables_of_differences(
    runs: Mapping[str, Evaluation], labels: Sequence[str], against: str = MAIN_ROW
) -> list[Table]:
    """Return the differences as tables, with a star on what exceeds two standard errors."""
    return [_starred(title, gaps, labels) for title, gaps in differences(runs, labels, against).items()]


def _asked_otherwise(run: Evaluation, against: str) -> list[RowInfo]:
    """Return the rows of a trained model beside one of them: other settings, generated or wrong conditions."""
    rows = [row for row in run.row_infos if row.is_synthetic and row.name not in (against, *NOT_ASKED_OTHERWISE)]
    return rows if against in run.rows else []


def _is_judged(gap: Measure | None) -> bool:
    return gap is not None and gap.error is not None


def _starred(title: str, gaps: Mapping[str, Sequence[Measure | None]], labels: Sequence[str]) -> Table:
    body, beyond = [], 0
    for name, row in gaps.items():
        stars = [_is_judged(gap) and verdict(gap) in (HOLDS, DOES_NOT_HOLD) for gap in row]
        beyond += sum(stars)
        body.append([name, *(format_measure(gap) + " *" * star for gap, star in zip(row, stars))])
    num = sum(_is_judged(gap) for row in gaps.values() for gap in row)
    caption = (
        f"Positive: the second is nearer to real patches. * exceeds two standard errors (patients and, where they were "
        f"averaged, seeds): {beyond} of {num}; about one in twenty would by chance."
    )
    return Table([title, *labels], body, [""] * len(body), caption)


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
