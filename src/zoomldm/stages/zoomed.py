"""The zoom of a run whose embedding diffusion model zooms: judged beside its evaluation, and compared with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zoomldm.errors import UserError
from zoomldm.evaluation.report.compare_zooms import JudgedZoom, compare_zooms
from zoomldm.evaluation.report.page import Page
from zoomldm.evaluation.seeds import revision_of
from zoomldm.evaluation.zoom import ZoomErrors, ZoomJudge, table_of
from zoomldm.files import write_json
from zoomldm.model.zooming import ZoomingEDM
from zoomldm.runs.checkpoint import newest_model
from zoomldm.runs.run import Run
from zoomldm.stages.base import stage_of
from zoomldm.stages.edm import ZoomingEDMStage
from zoomldm.stages.trained import HowToSample, TrainedModels, sampling_of
from zoomldm.stored import read_json, stored_as

NAME, NUM = "zoom.json", 48
WITH_EDM = "with-"
"""What the folders of a run begin with that hold evaluations with other EDMs."""


def judged_zoom(trained: TrainedModels, folder: Path, how: HowToSample, *, batch_size: int, fresh: bool) -> bool:
    """Judge the zoom by held-out patches, keep it as ``zoom.json`` in a folder and print it; False without a zoom."""
    edm = trained.edm and trained.edm.module
    if not isinstance(edm, ZoomingEDM):
        return False
    ladder = trained.manifest.ladder
    plain = how.over_edm(sampling_of(trained.edm.config, ladder, trained.allow), ladder)
    zooming = replace(plain, guidance_scale=1.0)
    identity = trained.identity | {"seed": how.seed, "num": NUM, "plain": repr(plain), "zooming": repr(zooming)}
    kept_as, kept = _kept(folder)
    if kept is None or kept_as != identity or fresh:
        judge = ZoomJudge(
            trained.model.module, edm, zooming=zooming, plain=plain, seed=how.seed, batch_size=min(NUM, batch_size)
        )
        kept = judge.judge(trained.manifest, split="test", num=NUM)
        write_json(folder / NAME, {"identity": identity, "errors": asdict(kept)})
    print(
        "tokens of quarters, squared error against the real quarter's (standardised), by the quarter's magnification:"
    )
    print("\n".join(table_of(kept)))
    return True


def compared_zooms(
    runs: Sequence[Run], *, title: str, faults: Mapping[str, str], allow: tuple[str, ...] = ()
) -> tuple[Page | None, list[str]]:
    """Set side by side what is kept of the zooms of embedding diffusion models' runs.

    Args:
        faults: by run, what speaks against its figures.

    Returns:
        The page, None where nothing is kept; and of those that zoom and were not judged the command that does.
    """
    found, notes = [], []
    for run in runs:
        one = _found_of(run, faults.get(run.name))
        if one is None and isinstance(stage_of(run.config, allow), ZoomingEDMStage):
            notes.append(f"its zoom has not been judged, so left out: {run.name}; {judging(run, 'rows=[generated]')}")
        elif one is not None:
            found.append(one)
    return (compare_zooms(found, title=title, notes=notes) if found else None), notes


def judged_places(run: Run) -> Iterator[Path]:
    """Yield where an embedding diffusion model may have been judged: first in its own ZoomLDM's folder."""
    runs = run.folder.parent
    for folder in (runs / run.config["zoomldm"]["run"], *sorted(runs.iterdir())):
        yield from (folder / f"{WITH_EDM}{run.name}", folder)


def _found_of(run: Run, fault: str | None) -> JudgedZoom | None:
    """Return what is kept of the zoom of a run's newest checkpoint, in the folder of the ZoomLDM that it belongs to.

    A ZoomLDM that is told the level above has the conditioner of another, and its EDMs: what was judged there counts.
    """
    config = run.config
    try:
        newest = newest_model(run.folder)
    except UserError:
        return None  # not trained yet
    for place in judged_places(run):
        identity, errors = _kept(place)
        if errors is not None and identity["edm"] == newest.model_sha256:
            told = {key: str(identity[key]) for key in ("data", "seed", "num", "plain", "zooming")}
            facts = {"revisions": revision_of(run.described()), "steps": str(newest.step), **told}
            return JudgedZoom(name=run.name, errors=errors, config=config, facts=facts, fault=fault)
    return None


def judging(run: Run, words: str) -> str:
    """Say the command that judges an embedding diffusion model with its own ZoomLDM."""
    learnt = run.config["zoomldm"]["run"]
    return f"""`python src/evaluate.py "run='{learnt}'" "edm='{run.name}'" {words}` judges it"""


def _kept(folder: Path) -> tuple[dict[str, Any], ZoomErrors | None]:
    """Return with which models and settings a zoom was judged, and what was found."""
    try:
        content = read_json(folder / NAME)
        return dict(content["identity"]), stored_as(ZoomErrors, content["errors"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, None  # not there, or damaged: it is judged again
