"""The figures of a comparison as JSON, for a figure or a table of one's own: ``comparison.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoomldm.evaluation.errors import Averaged, Measure
from zoomldm.evaluation.report.differences import differences
from zoomldm.evaluation.result import Cell, Evaluation

FORMAT_VERSION, KIND = 1, "zoomldm-comparison"
DISTANCE = "distance"
"""What the judging distance to training patches is called among the measures."""
JOINED = " + "
"""Between the names of runs that are one row: those of single magnifications."""


def figures_of(
    runs: Mapping[str, Evaluation],
    labels: Sequence[str],
    *,
    notes: Sequence[str],
    revisions: Mapping[str, str],
    against: str,
) -> dict[str, Any]:
    """Return run → row → measure → ``value`` and ``error``, lists by magnification, and what was measured how.

    Args:
        labels: of magnifications, highest first.
        revisions: of the source that trained a run, by the run's own name; against: the row that others of its run
            are set against.
    """
    judge = next(iter(runs.values())).judge
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "distance": judge.distance_name,
        "against": against,
        "magnifications": list(labels),
        "notes": list(notes),
        "runs": {name: _run(one, labels, revisions) for name, one in runs.items()},
        "differences": {
            title: {name: _measures(row) for name, row in gaps.items()}
            for title, gaps in differences(runs, labels, against).items()
        },
    }


def to_json(figures: Mapping[str, Any]) -> str:
    """Return figures as JSON that can be read and compared line by line: a list of numbers or of words is a line."""
    return re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(figures, indent=1)) + "\n"


def _run(one: Evaluation, labels: Sequence[str], revisions: Mapping[str, str]) -> dict[str, Any]:
    known = [revisions[part] for part in one.run_name.split(JOINED) if part in revisions]
    rows = one.cells[one.judge.distance_name]
    return {
        "run": one.run_name,
        "revision": ", ".join(dict.fromkeys(known)) or None,
        "step": one.step,
        "date": one.date,
        "hardware": one.hardware,
        "data": one.data.get("name"),
        "settings": one.settings,
        "rows": {row: _row([cells.get(label) for label in labels]) for row, cells in rows.items()},
    }


def _row(cells: Sequence[Cell | None]) -> dict[str, Any]:
    """Return the measures of a row, with what they rest on; None where a magnification has no such figure."""
    measures = [cell and {DISTANCE: cell.distance, **cell.measures} for cell in cells]
    names = dict.fromkeys(name for one in measures if one for name in one)
    averages = [cell.distance for cell in cells if cell and isinstance(cell.distance, Averaged)]
    return {
        "num": [cell and cell.num for cell in cells],
        "num_reference": [cell and cell.num_reference for cell in cells],
        "judged_by": [cell and cell.judged_by for cell in cells],
        "seeds": max((len(one.by_seed) for one in averages), default=1),
        **{name: _measures([one and one.get(name) for one in measures]) for name in names},
    }


def _measures(measures: Sequence[Measure | None]) -> dict[str, list[float | None]]:
    return {part: [_short(one and getattr(one, part)) for one in measures] for part in ("value", "error")}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
