"""Runs whose parents are gone or have changed since: what was trained on them is no longer what their names say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zoomldm.data.manifest import Manifest
from zoomldm.errors import UserError
from zoomldm.runs.checkpoint import newest_model
from zoomldm.runs.lineage import DATA, Parent, require_data, require_same_parents
from zoomldm.runs.run import Run
from zoomldm.stages.base import stage_of


def orphans(runs: Iterable[Run], *, allow: tuple[str, ...] = ()) -> dict[str, str]:
    """Return by name what is wrong with the parents of each run of which anything is."""
    return {run.name: reason for run in runs if (reason := _why(run, allow))}


def _why(run: Run, allow: tuple[str, ...]) -> str | None:
    config = run.config
    config["paths"] = {**(config.get("paths") or {}), "runs": str(Path(run.folder).parent)}
    try:
        before = newest_model(run.folder).parents
        manifest = Manifest.load(config["data"]["root"])
        now = stage_of(config, allow).parents(manifest)
        require_same_parents(run.name, before, now, mend="train it anew")
        if DATA in before:
            require_data(run.name, before, data=Parent(manifest.name, now[DATA]))
    except UserError as error:
        return f"missing or other parents: {' '.join(str(error).split())}"
    return None
