"""Evaluations of older formats: 2 took the rows and metrics of its time for granted, 3 the estimator of verdicts."""

from dataclasses import asdict
from typing import Any

from zoomldm.evaluation.metrics.fidelity import ConditioningFidelity
from zoomldm.evaluation.metrics.kid import KernelDistance
from zoomldm.evaluation.metrics.memorisation import Memorisation
from zoomldm.evaluation.metrics.paired import Paired
from zoomldm.evaluation.metrics.precision_recall import PrecisionRecall
from zoomldm.evaluation.result import FRECHET
from zoomldm.evaluation.rows.generated import Generated
from zoomldm.evaluation.rows.halves import Halves
from zoomldm.evaluation.rows.held_out import HeldOut
from zoomldm.evaluation.rows.oracle import Oracle
from zoomldm.evaluation.rows.reconstructions import Reconstructions
from zoomldm.evaluation.rows.shuffled import Shuffled
from zoomldm.evaluation.rows.untrained import Untrained

ROWS = {
    "halves": Halves,
    "held_out": HeldOut,
    "reconstructions": Reconstructions,
    "oracle": Oracle,
    "generated": Generated,
    "shuffled": Shuffled,
    "untrained": Untrained,
}
METRICS = {
    "paired": Paired,
    "fidelity": ConditioningFidelity,
    "kid": KernelDistance,
    "precision_recall": PrecisionRecall,
    "memorisation": Memorisation,
}


def as_format_3(content: dict[str, Any]) -> dict[str, Any]:
    """Bring the JSON of format 2 up to date; its figures stay what they are."""
    judge = content["descriptors"][0]["distance_name"]
    cells = {
        distance: {row: {label: _cell(cell) for label, cell in by_label.items()} for row, by_label in rows.items()}
        for distance, rows in content["cells"].items()
    }
    for row, by_label in content.pop("fidelity").items():
        for label, measure in by_label.items():
            cells[judge][row][label]["measures"]["fidelity"] = measure
    for row, by_label in content.pop("memorisation").items():
        for label, found in by_label.items():
            cells[judge][row][label]["measures"] |= {f"memorisation.{k}": _measure(v) for k, v in found.items()}
    settings = dict(content["settings"])
    if "DDIM steps" in settings:
        settings |= {"solver": "DDIM()", "sampling steps": settings.pop("DDIM steps")}
    return {
        **content,
        "cells": cells,
        "settings": settings,
        "row_infos": [asdict(row(name=name).info()) for name, row in ROWS.items() if name in cells[judge]],
        "metric_infos": [asdict(metric(name=name).info()) for name, metric in METRICS.items()],
    }


def as_format_4(content: dict[str, Any]) -> dict[str, Any]:
    """Bring the JSON of format 3 up to date: where it judged, it did so by the Fréchet distance."""
    for rows in content["cells"].values():
        for by_label in rows.values():
            for cell in by_label.values():
                cell["judged_by"] = FRECHET if cell.pop("judged") else ""
    return content


def _cell(content: dict[str, Any]) -> dict[str, Any]:
    """Move the figures that had fields of their own to ``measures``."""
    measures = {name: content.pop(name) for name in ("paired", "kid")}
    measures |= {f"precision_recall.{name}": _measure(content.pop(name)) for name in ("precision", "recall")}
    content["measures"] = {name: m for name, m in measures.items() if m is not None}
    return content


def _measure(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"value": value, "error": None, "replicates": []}
