"""The figures of a comparison as JSON, for a figure or a table of one's own: ``comparison.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoomldm.evaluation.result import Cell, Evaluation

FORMAT_VERSION, KIND = 1, "zoomldm-comparison"
DISTANCE = "distance"
"""What the judging distance to training patches is called among the measures."""


def figures_of(
    runs: Mapping[str, Evaluation], labels: Sequence[str], *, notes: Sequence[str], revisions: Mapping[str, str]
) -> dict[str, Any]:
    """Return run → row → measure → ``value`` and ``error``, lists by magnification, and what was measured how.

    Args:
        labels: of magnifications, highest first.
        revisions: of the source that trained a run, by the run's own name.
    """
    judge = next(iter(runs.values())).judge
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "distance": judge.distance_name,
        "magnifications": list(labels),
        "notes": list(notes),
        "runs": {name: _run(one, labels, revisions.get(one.run_name)) for name, one in runs.items()},
    }


def to_json(figures: Mapping[str, Any]) -> str:
    """Return figures as JSON that can be read and compared line by line: a list of numbers is a line."""
    return re.sub(r"\[[^][{}\"]*\]", lambda found: " ".join(found[0].split()), json.dumps(figures, indent=1)) + "\n"


def _run(one: Evaluation, labels: Sequence[str], revision: str | None) -> dict[str, Any]:
    rows = one.cells[one.judge.distance_name]
    return {
        "run": one.run_name,
        "revision": revision,
        "step": one.step,
        "date": one.date,
        "hardware": one.hardware,
        "data": one.data.get("name"),
        "rows": {row: _row([cells.get(label) for label in labels]) for row, cells in rows.items()},
    }


def _row(cells: Sequence[Cell | None]) -> dict[str, dict[str, list[float | None]]]:
    """Return the measures of a row; None where a magnification has no such figure."""
    measures = [cell and {DISTANCE: cell.distance, **cell.measures} for cell in cells]
    names = dict.fromkeys(name for one in measures if one for name in one)
    found = {name: [one and one.get(name) for one in measures] for name in names}
    return {
        name: {part: [_short(one and getattr(one, part)) for one in of_name] for part in ("value", "error")}
        for name, of_name in found.items()
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
