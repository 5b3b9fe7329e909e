"""compare.py: any evaluated runs side by side. Nothing here imports torch before ``run``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.job import allowed
from zoomldm.errors import ConfigError
from zoomldm.runs.run import RUN_NAME, Run, find_run

if TYPE_CHECKING:
    from omegaconf import DictConfig


def with_folders(argv: Sequence[str]) -> list[str]:
    """Return a command line in which folders of runs, as a shell's ``runs/*`` gives them, are ``runs=[…]``.

    Raises:
        ConfigError: they lie in different folders.
    """
    folders = [word for word in argv if (Path(word) / RUN_NAME).is_file()]
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
    """Refuse runs that are not there, or fewer than two.

    Raises:
        UserError: names them, with the near match.
    """
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(cfg, "runs") or len(set(cfg.runs)) < 2:
        raise ConfigError("runs: expected two evaluated runs or more: runs=[a,b], or their folders: runs/a runs/b")
    for name in cfg.runs:
        find_run(cfg.paths.runs, "zoomldm", name)


def run(cfg: DictConfig) -> None:
    """Compare the runs and print what was found."""
    from zoomldm.evaluation.report.compare_runs import compare_runs
    from zoomldm.stages.orphans import orphans

    names, runs = list(dict.fromkeys(cfg.runs)), Path(cfg.paths.runs)
    own = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
    folder = Path(cfg.folder) if cfg.folder else runs / "comparisons" / f"{len(names)}-runs-{own}"
    comparison = compare_runs(
        runs,
        names,
        folder,
        title="comparison: " + ", ".join(names),
        distance_name=cfg.distance,
        faults=orphans([Run(runs / name) for name in names], allow=allowed(cfg)),
    )
    print(f"{comparison.to_text()}\n\ncomparison: {folder / 'comparison.html'}")
