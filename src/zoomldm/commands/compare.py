"""compare.py: evaluated ZoomLDMs, or EDMs by their conditions and zooms, side by side.

Nothing here imports torch before ``run``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.job import allowed
from zoomldm.errors import ConfigError, UserError
from zoomldm.runs.run import RUN_NAME, Run, find_run

if TYPE_CHECKING:
    from omegaconf import DictConfig


def with_folders(argv: Sequence[str]) -> list[str]:
    """Return a command line in which folders of runs, as a shell's ``runs/*`` gives them, are ``runs=[…]``.

    Raises:
        ConfigError: they lie in different folders.
    """
    folders = [word for word in argv if os.path.isfile(Path(word) / RUN_NAME)]  # no error of words too long for a name
    if not folders:
        return list(argv)
    places = {Path(word).resolve().parent for word in folders}
    if len(places) > 1:
        found = ", ".join(map(str, sorted(places)))
        raise ConfigError(f"{' '.join(folders)}: expected runs of one folder, they lie in {found}")
    names = ",".join(f'"{Path(word).resolve().name}"' for word in folders)
    others = [word for word in argv if word not in folders]
    return [*others, f"runs=[{names}]", *([] if _names_runs(others) else [f"paths.runs={places.pop()}"])]


def _names_runs(words: Sequence[str]) -> bool:
    return any(word.startswith("paths.runs=") for word in words)


def check(cfg: DictConfig) -> None:
    """Refuse runs that are not there or of two kinds, or fewer than two; and a row where they are EDMs.

    Raises:
        UserError: names them, with the near match.
    """
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(cfg, "runs") or len(set(cfg.runs)) < 2:
        raise ConfigError("runs: expected two evaluated runs or more: runs=[a,b], or their folders: runs/a runs/b")
    for name in cfg.runs:
        find_run(cfg.paths.runs, _kind(cfg), name)
    if cfg.against and _kind(cfg) == "edm":
        raise ConfigError(f"against={cfg.against}: EDMs are compared by generated conditions alone; leave it out")


def _kind(cfg: DictConfig) -> str:
    """Return of what kind all runs have to be: that of the first, if that can be compared."""
    return "edm" if Run(Path(cfg.paths.runs) / cfg.runs[0]).kind == "edm" else "zoomldm"


def run(cfg: DictConfig) -> None:
    """Compare the runs and print what was found."""
    from zoomldm.stages.orphans import orphans

    names, runs = list(dict.fromkeys(cfg.runs)), Path(cfg.paths.runs)
    of = [*sorted(names), *filter(None, [cfg.against])]
    own = hashlib.sha256("\n".join(of).encode()).hexdigest()[:8]
    folder = Path(cfg.folder) if cfg.folder else runs / "comparisons" / f"{len(names)}-runs-{own}"
    title = "comparison: " + ", ".join(names)
    faults = orphans([Run(runs / name) for name in names], allow=allowed(cfg))
    compare = _compare_edms if _kind(cfg) == "edm" else _compare
    pages = compare(cfg, names, folder, title, faults)
    print("\n\n".join([*pages.values(), *(f"comparison: {folder / name}" for name in pages)]))


def _compare(
    cfg: DictConfig, names: Sequence[str], folder: Path, title: str, faults: Mapping[str, str]
) -> dict[str, str]:
    """Write the page, and return its text by its name."""
    from zoomldm.evaluation.report.compare_runs import compare_runs
    from zoomldm.evaluation.result import MAIN_ROW

    options = {"title": title, "distance_name": cfg.distance, "faults": faults, "against": cfg.against or MAIN_ROW}
    return {"comparison.html": compare_runs(cfg.paths.runs, names, folder, **options).to_text()}


def _compare_edms(
    cfg: DictConfig, names: Sequence[str], folder: Path, title: str, faults: Mapping[str, str]
) -> dict[str, str]:
    """Compare EDMs by the patches made of their conditions and, where they zoom, by their zooms.

    Raises:
        UserError: nothing can be compared; says why, and the commands that judge them.
    """
    from zoomldm.evaluation.report.compare_runs import compare_runs
    from zoomldm.stages.generated import evaluations_of_edms
    from zoomldm.stages.zoomed import compared_zooms

    runs, pages, faulty = [Run(Path(cfg.paths.runs) / name) for name in names], {}, []
    stored, notes = evaluations_of_edms(runs, cfg.distance)
    zooms = None
    try:
        zooms, unjudged = compared_zooms(runs, title=title, faults=faults, allow=allowed(cfg))
    except UserError as error:
        unjudged = [str(error)]
    if any(one.judged() for its in stored.values() for one in its) or (stored and zooms is None):
        options = {"title": title, "distance_name": cfg.distance, "faults": faults, "stored": stored}
        try:
            found = compare_runs(cfg.paths.runs, list(stored), folder, **options, notes=[*notes, *unjudged])
            pages["comparison.html"] = found.to_text()
        except UserError as error:
            faulty = [str(error)]
    if zooms is not None:
        zooms.write(folder, markdown="zooms.md", html="zooms.html")
        pages["zooms.html"] = "\n".join([zooms.to_markdown(), *faulty])
    if not pages:
        raise UserError("comparison: " + "\n".join([*faulty, *notes, *unjudged]))
    return pages
