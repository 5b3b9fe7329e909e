"""sample.py: synthetic patches of a run of ours or of a published model. Nothing here imports torch before ``run``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.devices import on_devices
from zoomldm.commands.job import allowed
from zoomldm.commands.requests import (
    check_magnifications,
    check_sampling,
    data_root,
    hardware_of,
    how_to_sample,
)
from zoomldm.config import option_of
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, near_match
from zoomldm.ladder import PAPER_LADDER, Ladder, Rung
from zoomldm.launch.processes import is_first_process
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.belonging import find_edm
from zoomldm.runs.run import find_run

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.sampling.conditions import Conditions
    from zoomldm.sampling.generator import PatchGenerator
    from zoomldm.stages.trained import HowToSample

CONDITIONS = ("oracle", "generated")
SPLITS = ("train", "test")


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be sampled.

    Raises:
        UserError: no such run, conditions or magnification; senseless numbers.
    """
    for key, known in (("conditions", CONDITIONS), ("split", SPLITS)):
        if cfg[key] not in known:
            raise ConfigError(f"{key}={cfg[key]}:{near_match(str(cfg[key]), known)} expected {' or '.join(known)}")
    check_sampling(cfg, {"n": 1, "batch_size": 1})
    if cfg.weights:
        ladder = _check_published(cfg)
    else:
        run = find_run(cfg.paths.runs, "zoomldm", cfg.run)
        if cfg.conditions == "generated":
            find_edm(cfg.paths.runs, run.name, cfg.edm)
        ladder = Manifest.load(data_root(cfg) or run.config["data"]["root"]).ladder
    check_magnifications(ladder, [] if cfg.magnification is None else [cfg.magnification])


def _check_published(cfg: DictConfig) -> Ladder:
    if cfg.run or cfg.edm:
        raise ConfigError("weights= samples from a published file, run= and edm= from runs of yours: give one of them")
    if cfg.conditions == "generated" and not cfg.edm_weights:
        raise ConfigError("conditions=generated with weights= needs edm_weights=, the file of the condition model")
    if cfg.conditions == "oracle" and not data_root(cfg):
        raise ConfigError(
            "conditions=oracle with weights= needs data=, a data set prepared with encoder=uni; or choose "
            "conditions=generated and give edm_weights="
        )
    for key in ("weights", "edm_weights"):
        if cfg[key] and not Path(cfg[key]).expanduser().exists():
            raise ConfigError(f"{key}={cfg[key]}: no such file; docs/weights.md says where it is published")
    return Manifest.load(data_root(cfg)).ladder if cfg.conditions == "oracle" else PAPER_LADDER


def run(cfg: DictConfig, command: Sequence[str] = ()) -> list[Path] | None:
    """Write synthetic patches as PNGs and contact sheets; return the paths of the sheets.

    Args:
        command: the command line that runs this job alone, for the processes of several devices.
    """
    trained = None if cfg.weights else find_run(cfg.paths.runs, "zoomldm", cfg.run).config
    hardware = hardware_of(cfg, trained)
    return on_devices(hardware, partial(_run, cfg, hardware), command=command, cache=cfg.paths.cache)


def _run(cfg: DictConfig, hardware: FabricSettings, fabric: Fabric) -> list[Path]:
    from zoomldm.sampling.conditions import GeneratedConditions, RealConditions

    how = how_to_sample(cfg, hardware, fabric)
    generator, manifest, name = _published(cfg, how) if cfg.weights else _of_run(cfg, how)
    wants_edm = cfg.conditions == "generated"
    conditions = GeneratedConditions() if wants_edm else RealConditions(manifest, split=cfg.split, seed=cfg.seed)
    return _write(cfg, generator, conditions, manifest.ladder if manifest else PAPER_LADDER, name, fabric)


def _of_run(cfg: DictConfig, how: HowToSample) -> tuple[PatchGenerator, Manifest, str]:
    from zoomldm.stages.trained import load_trained

    trained = load_trained(
        cfg.paths.runs,
        cfg.run,
        data_root=data_root(cfg),
        edm=cfg.edm,
        wants_edm=cfg.conditions == "generated",
        allow=allowed(cfg),
    )
    if is_first_process():
        print(f"sampling from run {trained.run.name}, checkpoint of step {trained.model.step}")
    return trained.generator(how), trained.manifest, trained.run.name


def _published(cfg: DictConfig, how: HowToSample) -> tuple[PatchGenerator, Manifest | None, str]:
    """Load an official ZoomLDM. Its condition model knows no dropped magnification, so there is no guidance for it.

    Raises:
        WeightsError: the files are not an official ZoomLDM's. DataError: the data set's grids were not made with UNI.
    """
    from zoomldm.diffusion.solvers.base import Solver
    from zoomldm.sampling.generator import PatchGenerator, Sampling
    from zoomldm.stages.published import load_published

    wants_edm = cfg.conditions == "generated"
    published = load_published(cfg.weights, edm_path=cfg.edm_weights if wants_edm else None)
    for report in published.reports:
        print(report)
    manifest = None
    if not wants_edm:
        manifest = Manifest.load(data_root(cfg))
        manifest.check_encoder(published.encoder)
    ddim, ddim_even = (option_of("solver", name).make(Solver) for name in ("ddim", "ddim_even"))
    generator = PatchGenerator(
        published.model,
        published.autoencoder,
        edm=published.edm,
        sampling=how.over(Sampling(solver=ddim, steps=50, guidance_scale=1.75)),
        edm_sampling=Sampling(solver=ddim_even, steps=200, guidance_scale=1.0),
        seed=how.seed,
        compute=how.compute,
    )
    return generator, manifest, f"published-{Path(cfg.weights).stem}"


def _write(
    cfg: DictConfig, generator: PatchGenerator, conditions: Conditions, ladder: Ladder, name: str, fabric: Fabric
) -> list[Path]:
    from zoomldm.sampling.writer import write_samples

    def folder_of(rung: Rung) -> Path:
        if cfg.folder:
            return Path(cfg.folder) / rung.label
        return Path(cfg.paths.runs) / name / "samples" / f"{cfg.conditions}-{rung.label}-seed{cfg.seed}"

    rungs = ladder.rungs if cfg.magnification is None else [ladder.rung_of(cfg.magnification)]
    return write_samples(
        generator,
        conditions,
        rungs,
        num=cfg.n,
        batch_size=cfg.batch_size,
        name=name,
        folder_of=folder_of,
        fabric=fabric,
    )
