"""What a search over settings minimises (hydra/sweeper=search)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.runs.run import Run

if TYPE_CHECKING:
    from zoomldm.evaluation.result import Evaluation

VALIDATION_LOSS = "validation/loss"


def mean_distance(evaluation: Evaluation) -> float | None:
    """Return the mean over the magnifications of the judge's distance of the row that runs are compared by."""
    prefix = f"{evaluation.judge.distance_name.lower()}/"
    distances = [value for name, value in evaluation.summary().items() if name.startswith(prefix)]
    return sum(distances) / len(distances) if distances else None


def validation_loss(run_folder: Path) -> float | None:
    """Return the last validation loss of a run, None where there is none."""
    lines = Run(run_folder).metrics.read()
    return next((line["value"] for line in reversed(lines) if line["name"] == VALIDATION_LOSS), None)
