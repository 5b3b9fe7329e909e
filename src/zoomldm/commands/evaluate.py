"""evaluate.py, and the evaluation at the end of a training. Nothing here imports torch before ``run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.job import allowed, option, plain
from zoomldm.commands.requests import (
    check_magnifications,
    check_sampling,
    data_root,
    how_to_sample,
    options_named,
    section,
)
from zoomldm.data.manifest import Manifest
from zoomldm.runs.run import Run, find_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.evaluation.result import Evaluation
    from zoomldm.stages.base import Judged


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be evaluated.

    Raises:
        UserError: no such run or magnification; senseless numbers.
    """
    run = find_run(cfg.paths.runs, "zoomldm", cfg.run)
    check_sampling(cfg, {"num_per_magnification": 8, "batch_size": 1})
    root = data_root(cfg) or run.config["data"]["root"]
    check_magnifications(Manifest.load(root).ladder, plain(cfg.magnifications) or [])


def run(cfg: DictConfig) -> Evaluation:
    """Evaluate the run that ``conf/evaluate.yaml`` names and print what was found."""
    from zoomldm.stages.evaluated import Request, evaluated

    request = Request(
        run=cfg.run,
        edm=cfg.edm,
        data_root=data_root(cfg),
        rows=options_named(cfg, "rows"),
        metrics=options_named(cfg, "metrics"),
        features=section(cfg, "features"),
        encoder=section(cfg, "encoder"),
        evaluation=section(cfg, "evaluation"),
        num_per_magnification=cfg.num_per_magnification,
        magnifications=plain(cfg.magnifications),
        how=how_to_sample(cfg),
        batch_size=cfg.batch_size,
        fresh=cfg.fresh,
        allow=allowed(cfg),
    )
    chosen = f"the {'named' if cfg.run else 'newest'} ZoomLDM run in {cfg.paths.runs}"
    return evaluated(cfg.paths.runs, request, chosen=chosen, keep=_keeper(cfg))


def run_after_training(cfg: DictConfig, judged: Judged) -> Evaluation:
    """Evaluate what was just trained, as ``conf/train.yaml`` says."""
    from zoomldm.sampling.device import device_of
    from zoomldm.stages.evaluated import Request, evaluated
    from zoomldm.stages.trained import HowToSample

    request = Request(
        run=judged.zoomldm,
        edm=judged.edm,
        rows=options_named(cfg, "rows"),
        metrics=options_named(cfg, "metrics"),
        features=plain(cfg.features),
        evaluation=section(cfg, "evaluation"),
        num_per_magnification=cfg.evaluation.num_in_sweep,
        magnifications=[cfg.training.magnification] if cfg.training.name == "single" else None,
        how=HowToSample(device=device_of("auto")),
        allow=allowed(cfg),
    )
    return evaluated(cfg.paths.runs, request, chosen="the run just trained", keep=_keeper(cfg))


def _keeper(cfg: DictConfig) -> Callable[[Run, Path], None]:
    """Return what brings a run's new metrics and its report's folder to tracking."""
    from zoomldm.tracking.base import Tracker

    def keep(run: Run, folder: Path) -> None:
        tracker = option(cfg, "tracking").make(Tracker)
        tracker.follow(run)
        tracker.artifact(folder)
        tracker.close()

    return keep
