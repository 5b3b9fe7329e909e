"""What was judged of an embedding diffusion model: the patches made of its conditions, as evaluations keep them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zoomldm.evaluation.result import FLOOR_ROW, MAIN_ROW, Evaluation
from zoomldm.evaluation.stored import stored_evaluations
from zoomldm.runs.checkpoint import newest_model
from zoomldm.runs.run import Run
from zoomldm.stages.zoomed import WITH_EDM, judged_places

GENERATED, REAL_CONDITIONS = "generated", "real_conditions"
"""An evaluation's row of an embedding diffusion model; what a ZoomLDM's main row is called beside it."""


def evaluations_of_edms(runs: Sequence[Run]) -> tuple[dict[str, list[Evaluation]], list[str]]:
    """Return by EDM its newest checkpoint's evaluations, and of the others the command that makes one.

    Their main row is the one of generated conditions; oracle conditions of the same ZoomLDM stand beside it.
    """
    found = {run.name: list(_of(run)) for run in runs}
    missing = [f"not evaluated, so left out: {run.name}; {_command(run)}" for run in runs if not found[run.name]]
    return {name: of_run for name, of_run in found.items() if of_run}, missing


def _of(run: Run) -> Iterator[Evaluation]:
    newest = newest_model(run.folder)
    for place in judged_places(run):
        of_edm = [one for one in stored_evaluations(place) if _is_of(one, place, run.name, newest.model_sha256)]
        if of_edm:
            yield from (_by_its_conditions(one, run.name, newest.step) for one in of_edm)
            return


def _is_of(evaluation: Evaluation, place: Path, name: str, sha256: str) -> bool:
    """Whether it judged this EDM; before evaluations said which one, the folder's name did."""
    its = evaluation.settings.get("EDM model")
    is_named = its == sha256 if its else place.name == f"{WITH_EDM}{name}"
    return is_named and any(evaluation.cell(GENERATED, label) for label in evaluation.magnifications)


def _by_its_conditions(evaluation: Evaluation, name: str, step: int) -> Evaluation:
    called = {GENERATED: MAIN_ROW, MAIN_ROW: REAL_CONDITIONS, FLOOR_ROW: FLOOR_ROW}
    cells = {
        distance: {called[row]: by_label for row, by_label in rows.items() if row in called}
        for distance, rows in evaluation.cells.items()
    }
    infos = [replace(one, name=called[one.name]) for one in evaluation.row_infos if one.name in called]
    own = {"run_name": name, "step": step, "labels": {}, "claims": []}
    return replace(evaluation, cells=cells, row_infos=infos, **own)


def _command(run: Run) -> str:
    learnt = run.config["zoomldm"]["run"]
    return f"""`python src/evaluate.py "run='{learnt}'" "edm='{run.name}'" rows=[halves,oracle,generated]` judges it"""
