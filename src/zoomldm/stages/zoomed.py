"""The zoom of a run whose embedding diffusion model zooms, judged beside its evaluation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zoomldm.evaluation.zoom import ZoomErrors, ZoomJudge, table_of
from zoomldm.files import write_json
from zoomldm.model.zooming import ZoomingEDM
from zoomldm.stages.trained import HowToSample, TrainedModels, sampling_of
from zoomldm.stored import read_json, stored_as

NAME, NUM = "zoom.json", 48


def judged_zoom(trained: TrainedModels, folder: Path, how: HowToSample, *, batch_size: int, fresh: bool) -> bool:
    """Judge the zoom by held-out patches, keep it as ``zoom.json`` in a folder and print it; False without a zoom."""
    edm = trained.edm and trained.edm.module
    if not isinstance(edm, ZoomingEDM):
        return False
    plain = how.over(sampling_of(trained.edm.config, trained.allow))
    zooming = replace(plain, guidance_scale=1.0)
    identity = trained.identity | {"seed": how.seed, "num": NUM, "plain": repr(plain), "zooming": repr(zooming)}
    kept = _kept(folder / NAME, identity)
    if kept is None or fresh:
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


def _kept(path: Path, identity: dict[str, Any]) -> ZoomErrors | None:
    """Return what was found before with the same models and settings."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        return stored_as(ZoomErrors, found["errors"]) if found["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # damaged: it is judged again
