"""slide.py: whole synthetic slides. Importing this imports no torch; ``check`` does, at its end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.canvas.plan import Level, levels_of
from zoomldm.canvas.settings import Agreement, LevelSettings
from zoomldm.commands.devices import on_devices
from zoomldm.commands.job import allowed, plain
from zoomldm.commands.requests import (
    check_one_guidance,
    check_sampling,
    check_steps,
    data_root,
    hardware_of,
    how_to_sample,
    packed_model,
    section,
    stored_config,
)
from zoomldm.commands.slide_numbers import check_numbers
from zoomldm.commands.slide_source import check_place, given_levels, given_of, in_region, source_of
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder
from zoomldm.launch.processes import is_first_process, is_supervised
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.belonging import find_edm
from zoomldm.runs.run import find_run
from zoomldm.sampling.settings import Sampling
from zoomldm.sampling.sources.base import Source
from zoomldm.stages.base import stage_of
from zoomldm.stages.edm import ZoomingEDMStage

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.canvas.given import Given
    from zoomldm.canvas.slide import SlideJob
    from zoomldm.stages.trained import HowToSample, TrainedModels

SUFFIXES = (".ome.tiff", ".ome.tif")
BYTES_A_PIXEL, COPIES = 3.5, 3
"""Compressed without loss, at most; in the file, in the work beside it, and in the file's next version."""
GIVEN_BYTES_A_PIXEL = 4
"""What is known of a place beforehand: its colours, and whether they stay."""


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be drawn.

    Raises:
        UserError: no such run or magnification; an EDM that does not zoom; senseless numbers; a full disk.
    """
    check_sampling(cfg, {"n": 1, "block": 1, "batch_size": 1})
    if not str(cfg.out).endswith(SUFFIXES):
        raise ConfigError(f"out={cfg.out}: expected a name that ends with {SUFFIXES[0]}")
    if folders := [path for path in paths_of(cfg) if path.is_dir()]:
        raise ConfigError(f"out={folders[0]}: is a folder; give another name")
    check_numbers(cfg)
    if section(cfg, "model") and (cfg.run or cfg.edm):
        raise ConfigError(f"model={cfg.model.name} is a whole model: leave out run= and edm=")
    check_steps(stored_config(cfg), {"sampling.steps": cfg.sampling.steps, "coarse.steps": cfg.coarse.steps})
    check_one_guidance(cfg, _ladder(cfg))
    check_place(cfg)
    _check_edm(cfg)
    levels = drawn_levels(cfg, source_of(cfg))
    needed, folder = _bytes(cfg, levels) * cfg.n, Path(cfg.out).absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    if needed > (free := shutil.disk_usage(folder).free):
        raise ConfigError(
            f"out={cfg.out}: needs up to {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free; use another "
            "disk, fewer roots or a lower target="
        )


def _check_edm(cfg: DictConfig) -> None:
    """Refuse a model that cannot zoom, before it is loaded."""
    if packed := packed_model(cfg):
        name, stage = packed.name, packed.stage("edm") if packed.has_edm else None
    else:
        run = find_edm(cfg.paths.runs, find_run(cfg.paths.runs, "zoomldm", cfg.run).name, cfg.edm)
        name, stage = run.name, stage_of(run.config, allowed(cfg))
    if not isinstance(stage, ZoomingEDMStage):
        raise ConfigError(
            f"{name}: its embedding diffusion model does not zoom; train one on that run with `python src/train.py "
            "model=edm_zoom` (demo: model=edm_zoom_tiny), name one with edm=, or choose model=reference"
        )


def _ladder(cfg: DictConfig) -> Ladder:
    packed = packed_model(cfg)
    return (
        packed.manifest.ladder if packed else Manifest.load(data_root(cfg) or stored_config(cfg)["data"]["root"]).ladder
    )


def drawn_levels(cfg: DictConfig, source: Source | None) -> list[Level]:
    """Return the levels that were asked for, coarsest first."""
    ladder, own = _ladder(cfg), source and source.own_rung()
    root = ladder.rung_of(cfg.root) if cfg.root is not None else own or ladder[len(ladder) - 1]
    rows, columns = _roots(cfg) or (source.extent(root) if source else (1, 1))
    levels = levels_of(ladder, root=root, target=ladder.rung_of(cfg.target), rows=rows, columns=columns)
    return in_region(cfg, levels, ladder)


def _roots(cfg: DictConfig) -> tuple[int, int] | None:
    """Return how many rows and columns of roots were asked for; None where nobody said."""
    if cfg.roots is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(cfg.roots))
    if not found:
        raise ConfigError(f"roots={cfg.roots}: expected ROWSxCOLUMNS, for example 2x3")
    return int(found[1]), int(found[2])


def _bytes(cfg: DictConfig, levels: Sequence[Level]) -> int:
    """Return the bytes of a slide while it is drawn, at most: pixels, and the tokens of every patch."""
    from zoomldm.cond.base import token_side

    tokens = stored_config(cfg)["model"]["tokens"]
    bytes_a_patch = 4 * token_side(tokens["resolution"]) ** 2 * tokens["dim"]

    def of(some: Sequence[Level], bytes_a_pixel: float) -> float:
        pixels = sum(level.height_px * level.width_px for level in some)
        return bytes_a_pixel * pixels + bytes_a_patch * sum(level.part.num_patches for level in some)

    return int(of(levels, COPIES * BYTES_A_PIXEL) + of(given_levels(cfg, levels), GIVEN_BYTES_A_PIXEL))


def paths_of(cfg: DictConfig) -> list[Path]:
    """Return the file of each slide."""
    path = Path(cfg.out)
    if cfg.n == 1:
        return [path]
    suffix = next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))
    stem, digits = path.name.removesuffix(suffix), max(2, len(str(cfg.n - 1)))
    return [path.with_name(f"{stem}-{k:0{digits}d}{suffix}") for k in range(cfg.n)]


def run(cfg: DictConfig, command: Sequence[str] = ()) -> None:
    """Draw the slides, or say what they would be.

    Args:
        command: the command line that runs this job alone, for the processes of several devices.
    """
    source = source_of(cfg)
    levels = drawn_levels(cfg, source)
    if is_first_process() and not is_supervised():
        _say_plan(cfg, levels)
    if cfg.plan:
        return
    hardware = hardware_of(cfg, stored_config(cfg))
    on_devices(hardware, partial(_run, cfg, source, levels, hardware), command=command, cache=cfg.paths.cache)


def _say_plan(cfg: DictConfig, levels: Sequence[Level]) -> None:
    for level in levels:
        print(
            f"{level.rung.label:>10}  {level.width_px:,} x {level.height_px:,} px  "
            f"{level.part.num_patches:,} patches at most  {level.rung.mpp:g} µm a pixel"
        )
    print(f"up to {_bytes(cfg, levels) / 1e9:.2f} GB a slide while it is drawn; glass is not sampled")


def _run(
    cfg: DictConfig, source: Source | None, levels: Sequence[Level], hardware: FabricSettings, fabric: Fabric
) -> None:
    given = given_of(cfg, source, levels) if source and fabric.global_rank == 0 else None
    trained, how = _trained(cfg), how_to_sample(cfg, hardware, fabric)
    for number, path in enumerate(paths_of(cfg)):
        _job(cfg, given, levels, trained, how, fabric, path, cfg.seed + number).run()


def _trained(cfg: DictConfig) -> TrainedModels:
    from zoomldm.stages.trained import load_trained

    if packed := packed_model(cfg):
        return packed.load(cfg.paths.runs, wants_edm=True)
    wanted = {"data_root": data_root(cfg), "edm": cfg.edm, "wants_edm": True, "allow": allowed(cfg)}
    return load_trained(cfg.paths.runs, cfg.run, **wanted)


def _job(
    cfg: DictConfig,
    given: Given | None,
    levels: Sequence[Level],
    trained: TrainedModels,
    how: HowToSample,
    fabric: Fabric,
    path: Path,
    seed: int,
) -> SlideJob:
    from zoomldm.canvas.settings import Glass, Inversion
    from zoomldm.canvas.slide import SlideJob
    from zoomldm.stages.trained import sampling_of

    ladder = trained.manifest.ladder
    tokens = sampling_of(trained.edm.config, ladder, allowed(cfg))
    fine, coarse = _settings(cfg, how.over(trained.sampling, ladder))
    return SlideJob(
        path=path,
        levels=levels,
        model=trained.model.module,
        autoencoder=trained.autoencoder.module,
        edm=trained.edm.module,
        weights=trained.weights,
        model_name=trained.run.name,
        fine=fine,
        coarse=coarse,
        coarse_to=cfg.coarse.to,
        root_sampling=tokens,
        zoom_sampling=replace(tokens, **plain(cfg.zoom)),
        glass=Glass(**plain(cfg.glass)),
        given=given,
        inversion=Inversion(**plain(cfg.inversion)),
        compute=how.compute,
        fabric=fabric,
        seed=seed,
        **{key: cfg[key] for key in ("overlap", "block", "halo", "batch_size", "compression", "mark", "keep")},
    )


def _settings(cfg: DictConfig, sampling: Sampling) -> tuple[LevelSettings, LevelSettings]:
    """Return how fine and how coarse levels are drawn."""
    coarse = plain(cfg.coarse)
    fine = LevelSettings(sampling=sampling, agreement=Agreement(**plain(cfg.agreement)))
    return fine, LevelSettings(
        sampling=replace(sampling, steps=coarse["steps"], guidance_scale=coarse["guidance_scale"]),
        agreement=replace(fine.agreement, reach=coarse["reach"], final=coarse["final"]),
    )
