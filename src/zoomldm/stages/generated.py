"""What was judged of an embedding diffusion model: the patches made of its conditions, as evaluations keep them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from zoomldm.errors import UserError
from zoomldm.evaluation.result import FLOOR_ROW, MAIN_ROW, Evaluation
from zoomldm.evaluation.stored import stored_evaluations
from zoomldm.runs.checkpoint import newest_model
from zoomldm.runs.run import Run
from zoomldm.stages.zoomed import WITH_EDM, judged_places, judging

GENERATED, REAL_CONDITIONS = "generated", "real_conditions"
"""An evaluation's row of an embedding diffusion model; what a ZoomLDM's main row is called beside it."""
WORDS = "rows=[halves,oracle,generated] fresh=true"
"""Of the command that judges an embedding diffusion model's conditions, also where it was judged before."""
UNRECORDED = {"EDM guidance scale": "not recorded"}
"""Settings of evaluations that were made before they were written down."""


def evaluations_of_edms(
    runs: Sequence[Run], distance_name: str | None = None
) -> tuple[dict[str, list[Evaluation]], list[str]]:
    """Return by EDM its newest checkpoint's evaluations, and what must be known of them and of those without.

    Their main row is the one of generated conditions; oracle conditions of the same ZoomLDM stand beside it.

    Args:
        distance_name: of the evaluations; None: all.
    """
    found: dict[str, list[Evaluation]] = {}
    notes, by = [], f" by {distance_name}" if distance_name else ""
    for run in runs:
        anew = judging(run, WORDS)
        try:
            newest = newest_model(run.folder)
        except UserError as error:
            notes.append(f"left out: {error}")
            continue
        its = _of(run, newest.model_sha256, distance_name)
        if its:
            found[run.name] = [_by_its_conditions(one, run, newest.step) for one in its]
        else:
            notes.append(f"not evaluated{by}, so left out: {run.name}; {anew}")
        if any("EDM model" not in one.settings for one in its):
            notes.append(f"{run.name}: judged before evaluations said which checkpoint drew; {anew}")
    return found, notes


def _of(run: Run, sha256: str, distance_name: str | None) -> list[Evaluation]:
    for place in judged_places(run):
        is_own = place.name == f"{WITH_EDM}{run.name}"
        try:
            stored = stored_evaluations(place, distance_name)
        except UserError:
            if is_own:
                raise
            continue  # another run's, which does not matter here
        of_edm = [one for one in stored if _is_of(one, sha256, is_own=is_own)]
        if of_edm:
            return of_edm
    return []


def _is_of(evaluation: Evaluation, sha256: str, *, is_own: bool) -> bool:
    """Whether it judged this EDM; before evaluations said which one, the folder's name did."""
    its = evaluation.settings.get("EDM model")
    is_named = its == sha256 if its else is_own
    return is_named and any(evaluation.cell(GENERATED, label) for label in evaluation.magnifications)


def _by_its_conditions(evaluation: Evaluation, run: Run, step: int) -> Evaluation:
    """Return an evaluation of a ZoomLDM as one of the EDM that drew its conditions."""
    called = {GENERATED: MAIN_ROW, MAIN_ROW: REAL_CONDITIONS, FLOOR_ROW: FLOOR_ROW}
    cells = {
        distance: {called[row]: by_label for row, by_label in rows.items() if row in called}
        for distance, rows in evaluation.cells.items()
    }
    infos = [replace(one, name=called[one.name]) for one in evaluation.row_infos if one.name in called]
    learnt = re.sub(r"-seed=\d+$", "", evaluation.run_name)
    settings = UNRECORDED | evaluation.settings | {"ZoomLDM": f"{learnt}, step {evaluation.step}"}
    own = {"run_name": run.name, "step": step if "EDM model" in settings else None, "labels": {}, "claims": []}
    return replace(evaluation, cells=cells, row_infos=infos, settings=settings, **own)
