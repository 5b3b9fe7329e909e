"""evaluate.py, and the evaluation at the end of a training. Nothing here imports torch before ``run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.devices import on_devices
from zoomldm.commands.job import allowed, option, plain
from zoomldm.commands.requests import (
    check_guidance,
    check_magnifications,
    check_sampling,
    check_steps,
    data_root,
    hardware_of,
    how_to_sample,
    options_named,
    packed_model,
    section,
    stored_config,
)
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.run import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.evaluation.result import Evaluation
    from zoomldm.stages.base import Judged


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be evaluated.

    Raises:
        UserError: no such run or magnification; senseless numbers.
    """
    if section(cfg, "model") and (cfg.run or cfg.edm or cfg.step):
        raise ConfigError(f"model={cfg.model.name} is a whole model: leave out run=, step= and edm=")
    config = stored_config(cfg)
    check_sampling(cfg, {"num_per_magnification": 8, "batch_size": 1})
    root = data_root(cfg) or config["data"].get("root")
    if not root:
        raise ConfigError(
            f"model={cfg.model.name} brings no patches to be compared with: name a data set of them, data=demo (`make "
            "demo` prepares it) or data=reference (`make reference`)"
        )
    ladder = Manifest.load(root).ladder
    check_steps(config, {"sampling.steps": cfg.sampling.steps})
    check_guidance(cfg, ladder)
    check_magnifications(ladder, plain(cfg.magnifications) or [])


def run(cfg: DictConfig, command: Sequence[str] = ()) -> Evaluation | None:
    """Evaluate the run that ``conf/evaluate.yaml`` names and print what was found.

    Args:
        command: the command line that runs this job alone, for the processes of several devices.
    """
    hardware = hardware_of(cfg, stored_config(cfg))
    return on_devices(hardware, partial(_run, cfg, hardware), command=command, cache=cfg.paths.cache)


def _run(cfg: DictConfig, hardware: FabricSettings, fabric: Fabric) -> Evaluation | None:
    from zoomldm.stages.evaluated import Request, evaluated

    request = Request(
        packed=packed_model(cfg),
        run=cfg.run,
        step=cfg.step,
        edm=cfg.edm,
        data_root=data_root(cfg),
        rows=options_named(cfg, "rows"),
        metrics=options_named(cfg, "metrics"),
        features=section(cfg, "features"),
        encoder=section(cfg, "encoder"),
        evaluation=section(cfg, "evaluation"),
        num_per_magnification=cfg.num_per_magnification,
        magnifications=plain(cfg.magnifications),
        how=how_to_sample(cfg, hardware, fabric),
        batch_size=cfg.batch_size,
        fresh=cfg.fresh,
        allow=allowed(cfg),
    )
    chosen = f"the {'named' if cfg.run else 'newest'} ZoomLDM run in {cfg.paths.runs}"
    chosen = "packed" if section(cfg, "model") else chosen
    return evaluated(cfg.paths.runs, request, chosen=chosen, fabric=fabric, keep=_keeper(cfg))


def run_after_training(cfg: DictConfig, judged: Judged) -> Evaluation:
    """Evaluate what was just trained, as ``conf/train.yaml`` says, on one device."""
    hardware = replace(FabricSettings(**plain(cfg.fabric)), devices=1, num_nodes=1)
    work = partial(_run_after_training, cfg, judged, hardware)
    return on_devices(hardware, work, command=(), cache=cfg.paths.cache)


def _run_after_training(cfg: DictConfig, judged: Judged, hardware: FabricSettings, fabric: Fabric) -> Evaluation:
    from zoomldm.sampling.compute import Compute
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
        how=HowToSample(compute=Compute.of(hardware, fabric.device)),
        allow=allowed(cfg),
    )
    return evaluated(cfg.paths.runs, request, chosen="the run just trained", fabric=fabric, keep=_keeper(cfg))


def _keeper(cfg: DictConfig) -> Callable[[Run, Path], None]:
    """Return what brings a run's new metrics and its report's folder to tracking."""
    from zoomldm.tracking.base import Tracker

    def keep(run: Run, folder: Path) -> None:
        tracker = option(cfg, "tracking").make(Tracker)
        with tracker.following(run):
            tracker.artifact(folder)

    return keep
