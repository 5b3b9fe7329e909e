"""How a run grew: the distance of oracle conditions against the images seen, a curve a magnification."""

from __future__ import annotations

import json
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.evaluation.report.pictures import Line, chart, ramp
from zoomldm.evaluation.result import MAIN_ROW
from zoomldm.evaluation.stored import stored_evaluations
from zoomldm.files import write_atomically, write_json

PREFIX = "at-"
"""What the folders of a run begin with that hold evaluations of its earlier checkpoints."""


def folder_at(run_folder: Path, step: int) -> Path:
    """Return where the evaluation of a named checkpoint is kept, beside that of the newest."""
    return Path(run_folder) / f"{PREFIX}{step:08d}"


def growth_of(run_folder: Path, distance_name: str = "fd_texture") -> dict[str, list[tuple[int, float, float | None]]]:
    """Return magnification -> [(images seen, distance, its standard error)] of the evaluated checkpoints, ascending."""
    curves: dict[str, list[tuple[int, float, float | None]]] = {}
    for folder in sorted(Path(run_folder).glob(f"{PREFIX}*")):
        step = int(folder.name.removeprefix(PREFIX))
        info = json.loads((run_folder / "checkpoints" / f"step-{step:08d}" / "checkpoint.json").read_bytes())
        for evaluation in stored_evaluations(folder, distance_name):
            for label in evaluation.magnifications:
                if cell := evaluation.cell(MAIN_ROW, label):
                    point = (sum(info["samples_seen"].values()), cell.distance.value, cell.distance.error)
                    curves.setdefault(label, []).append(point)
    return curves


def draw_growth(run_folder: Path, distance_name: str = "fd_texture") -> Path:
    """Draw the curves into ``<run>/report/growth.png``, with their numbers in ``growth.json`` beside it.

    Raises:
        UserError: no checkpoint was evaluated by ``evaluate.py step=…``.
    """
    curves = growth_of(run_folder, distance_name)
    if not curves:
        raise UserError(
            f"{run_folder}: no checkpoint of it was evaluated; `python src/evaluate.py run={run_folder.name} step=…` "
            "evaluates one"
        )
    lines = [
        Line(
            label, [seen for seen, _, _ in points], [value for _, value, _ in points], colour=ramp(place / len(curves))
        )
        for place, (label, points) in enumerate(curves.items())
    ]
    path = run_folder / "report" / "growth.png"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, chart(lines, x_title="images seen", y_title=f"{distance_name} (log)", log_y=True))
    write_json(path.with_suffix(".json"), curves)
    return path
