"""Which embedding diffusion model belongs to a ZoomLDM run. Nothing here imports torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoomldm.errors import UserError
from zoomldm.runs.run import Run, find_run, find_runs, trained_of


def find_edm(runs: str | Path, zoomldm_run: str, name: str | None) -> Run:
    """Return the named embedding diffusion model's run, or the newest that learnt the tokens of a ZoomLDM run.

    One that is told labels is taken unnamed only where there is no other that is trained.

    Raises:
        UserError: there is none; the named one learnt another run's tokens.
    """
    zoomldm_run = _whose_tokens(Run(Path(runs) / zoomldm_run))
    if name is not None:
        run = find_run(runs, "edm", name)
        if (learnt := run.config["zoomldm"]["run"]) != zoomldm_run:
            raise UserError(f"edm={name}: learnt the tokens of run {learnt}, not of {zoomldm_run}; name another")
        return run
    belonging = trained_of(list(_edms_of(runs, zoomldm_run)))
    if not belonging:
        raise UserError(
            f"no embedding diffusion model learnt the tokens of run {zoomldm_run}; train one: `python src/train.py "
            f"model=edm zoomldm.run={zoomldm_run}` (demo: model=edm_tiny), or choose source=oracle"
        )
    return ([run for run in belonging if not run.config.get("label")] or belonging)[-1]


def conditioner_run(config: Mapping[str, Any]) -> str | None:
    """Return the run whose conditioner a ZoomLDM's configuration keeps, None where it is its own."""
    return config["model"].get("init_run")


def _whose_tokens(run: Run) -> str:
    """Return the name of the run whose conditioner makes a ZoomLDM run's tokens."""
    try:
        return conditioner_run(run.config) or run.name
    except (OSError, KeyError, TypeError):
        return run.name


def _edms_of(runs: str | Path, zoomldm_run: str) -> Iterator[Run]:
    for run in find_runs(runs, "edm"):
        try:
            if run.config["zoomldm"]["run"] == zoomldm_run:
                yield run
        except (OSError, KeyError, TypeError):
            continue
