"""export.py: a trained run as a folder for users of diffusers. Nothing here imports torch before ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.commands.job import allowed, plain
from zoomldm.errors import ConfigError
from zoomldm.runs.belonging import find_edm
from zoomldm.runs.run import Run, find_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.export.source import Part, Source
    from zoomldm.stages.loaded import Loaded
    from zoomldm.stages.trained import TrainedModels

NO_EDM = "none"
"""Value of ``edm`` that leaves the embedding diffusion model out."""


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be exported.

    Raises:
        UserError: no such run, or the folder is there already.
    """
    run = find_run(cfg.paths.runs, "zoomldm", cfg.run)
    if cfg.edm not in (None, NO_EDM):
        find_edm(cfg.paths.runs, run.name, cfg.edm)
    if _target(cfg, run).exists() and not cfg.fresh:
        raise ConfigError(f"{_target(cfg, run)}: is there already; fresh=true replaces it, folder= names another")


def run(cfg: DictConfig) -> Path:
    """Write the run that ``conf/export.yaml`` names as a folder; return it."""
    from zoomldm.export.folder import write_folder
    from zoomldm.stages.trained import load_trained

    check(cfg)
    trained = load_trained(
        cfg.paths.runs,
        cfg.run,
        edm=None if cfg.edm == NO_EDM else cfg.edm,
        wants_edm=cfg.edm != NO_EDM,
        allow=allowed(cfg),
    )
    target = _target(cfg, trained.run)
    places = [path for path in plain(cfg.paths).values() if isinstance(path, str)]
    write_folder(source_of(trained), target, title=cfg.title, places=places)
    print(f"exported {trained.run.name}, checkpoint of step {trained.model.step}, to {target}")
    return target


def source_of(trained: TrainedModels) -> Source:
    """Return what an export is made of."""
    from zoomldm.export.source import Source

    return Source(
        run=trained.run,
        manifest=trained.manifest,
        model=trained.model.module,
        config=trained.config,
        step=trained.model.step,
        autoencoder=_part(trained.autoencoder),
        edm=trained.edm and _part(trained.edm),
    )


def _part(loaded: Loaded[Any]) -> Part:
    from zoomldm.export.source import Part

    return Part(module=loaded.module, config=loaded.config, step=loaded.step)


def _target(cfg: DictConfig, run: Run) -> Path:
    return Path(cfg.folder) if cfg.folder else run.folder / "export"
