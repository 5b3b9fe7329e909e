"""sample.py: synthetic patches of a run of ours or of a published model. Nothing here imports torch before ``run``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    section,
    stored_config,
)
from zoomldm.commands.sampled_model import manifest_of, model_of
from zoomldm.config import Option, option_of, parameters_of
from zoomldm.errors import ConfigError, DataError
from zoomldm.ladder import PAPER_LADDER, Ladder, Rung
from zoomldm.launch.processes import is_first_process
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.belonging import find_edm
from zoomldm.runs.run import find_run
from zoomldm.sampling.sources.base import Source

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.sampling.arrangement import Arrangement


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be sampled.

    Raises:
        UserError: no such run, source or magnification; senseless numbers.
    """
    check_sampling(cfg, {"n": 1, "batch_size": 1, "variations": 1, "interpolate": 2})
    if cfg.variations and cfg.interpolate:
        raise ConfigError(f"variations={cfg.variations} interpolate={cfg.interpolate}: give one of them")
    if section(cfg, "model") and (cfg.weights or cfg.run or cfg.edm):
        raise ConfigError(f"model={cfg.model.name} is a whole model: leave out run=, edm= and weights=")
    if cfg.weights and (cfg.run or cfg.edm):
        raise ConfigError("weights= samples from a published file, run= and edm= from runs of yours: give one of them")
    trained = _stored_config(cfg)
    ladder = _ladder(cfg, trained)
    check_steps(trained or {}, {"sampling.steps": cfg.sampling.steps})
    check_guidance(cfg, ladder)
    check_magnifications(ladder, [] if cfg.magnification is None else [cfg.magnification])
    kind = source_option(cfg).target(Source)
    if cfg.weights:
        _check_published(cfg, kind)
    elif kind.needs_edm and not section(cfg, "model"):
        find_edm(cfg.paths.runs, find_run(cfg.paths.runs, "zoomldm", cfg.run).name, cfg.edm)


def _stored_config(cfg: DictConfig) -> dict[str, Any] | None:
    """Return the run's or packed model's configuration; None for a published model."""
    return None if cfg.weights else stored_config(cfg)


def source_option(cfg: DictConfig) -> Option:
    """Return the source that was chosen; of a packed model without a data set there are no real patches to take."""
    chosen = option(cfg, "source")
    is_without_patches = section(cfg, "model") and not data_root(cfg)
    return option_of("source", "generated") if is_without_patches and chosen.target(Source).needs_shards else chosen


def _ladder(cfg: DictConfig, trained: Mapping[str, Any] | None) -> Ladder:
    manifest = manifest_of(cfg, trained)
    return manifest.ladder if manifest else PAPER_LADDER


def _check_published(cfg: DictConfig, kind: type[Source]) -> None:
    name = option(cfg, "source").name
    if kind.needs_edm and not cfg.edm_weights:
        raise ConfigError(f"source={name} with weights= needs edm_weights=, the file of the condition model")
    if parameters_of(kind).get("manifest") and not data_root(cfg):
        raise ConfigError(
            f"source={name} with weights= needs data=, a data set prepared with encoder=uni; or choose "
            "source=generated and give edm_weights="
        )
    for key in ("weights", "edm_weights"):
        if cfg[key] and not Path(cfg[key]).expanduser().exists():
            raise ConfigError(f"{key}={cfg[key]}: no such file; docs/weights.md says where it is published")


def run(cfg: DictConfig, command: Sequence[str] = ()) -> list[Path] | None:
    """Write synthetic patches and contact sheets; return the paths of the sheets.

    Args:
        command: the command line that runs this job alone, for the processes of several devices.
    """
    hardware = hardware_of(cfg, _stored_config(cfg))
    if (source := source_option(cfg).name) != option(cfg, "source").name:
        print(
            f"model={cfg.model.name} brings no patches of its own: source={source}; data= names a data set of its kind"
        )
    return on_devices(hardware, partial(_run, cfg, hardware), command=command, cache=cfg.paths.cache)


def _asked(cfg: DictConfig) -> Iterator[str]:
    """Yield what was asked for besides the run's own way of sampling, so that patches of two ways never mix."""
    if cfg.solver:
        yield str(cfg.solver.name)
    if cfg.sampling.steps is not None:
        yield f"steps{cfg.sampling.steps}"
    scale, interval = plain(cfg.sampling.guidance_scale), plain(cfg.sampling.guidance_interval)
    if scale is not None:
        yield f"guidance{_said(scale)}"
    if interval is not None:
        yield "interval{:g},{:g}".format(*interval)
    if cfg.sampling.edm_guidance_scale is not None:
        yield f"edm{_said(plain(cfg.sampling.edm_guidance_scale))}"


def _said(scale: Any) -> str:
    by = [f"{one}x{value:g}" for one, value in scale.items()] if isinstance(scale, dict) else [f"{scale:g}"]
    return ",".join(by).replace("defaultx", "")


def _run(cfg: DictConfig, hardware: FabricSettings, fabric: Fabric) -> list[Path]:
    from zoomldm.sampling.outputs.base import Output
    from zoomldm.sampling.writer import Sampler

    trained = _stored_config(cfg)
    ladder = _ladder(cfg, trained)
    source, rungs = _in_scene(cfg, made_source(cfg, source_option(cfg), trained), ladder)
    rungs = _with_conditions(cfg, source, rungs)
    arrangement = _arrangement(cfg, source, rungs)
    generator, name, facts = model_of(cfg, how_to_sample(cfg, hardware, fabric), source)
    label = "-".join(word for word in (source.label, "scene" * cfg.scene, arrangement.label, *_asked(cfg)) if word)
    folder = Path(cfg.folder or Path(cfg.paths.runs) / name / "samples")

    def folder_of(rung: Rung) -> Path:
        return folder / (rung.label if cfg.folder else f"{label}-{rung.label}-seed{cfg.seed}")

    sampler = Sampler(
        generator=generator,
        source=source,
        output=option(cfg, "to").make(Output),
        name=name,
        folder_of=folder_of,
        arrangement=arrangement,
        facts=facts,
    )
    sheets = sampler.write(rungs, num=cfg.n, batch_size=cfg.batch_size, fabric=fabric)
    if cfg.scene and sheets:
        sampler.write_scenes(rungs, folder / ("scenes.png" if cfg.folder else f"{label}-seed{cfg.seed}.png"), num=cfg.n)
    return sheets


def made_source(cfg: DictConfig, chosen: Option, trained: Mapping[str, Any] | None) -> Source:
    """Make a source, by what is known of the data set."""
    manifest = manifest_of(cfg, trained)
    known = {"seed": cfg.seed, "allow": allowed(cfg)} | ({"manifest": manifest} if manifest else {})
    wanted = parameters_of(chosen.target(Source))
    if "encoder" in wanted:
        encoder = section(cfg, "encoder") or (trained and trained["encoder"])
        if not encoder:
            raise ConfigError(f"source={chosen.name} with weights= needs encoder=, what its tiles are embedded by")
        known["encoder"] = Option("encoder", encoder, allowed(cfg))
    if "readers" in wanted:
        known["readers"] = options_named(cfg, "reader")
    return chosen.make(Source, **known)


def _in_scene(cfg: DictConfig, source: Source, ladder: Ladder) -> tuple[Source, Sequence[Rung]]:
    """Return the source and magnifications that were asked for: with ``scene=true`` one and all higher ones."""
    named = None if cfg.magnification is None else ladder.rung_of(cfg.magnification)
    if not cfg.scene:
        return source, [named] if named else ladder.rungs
    coarsest = named or next((rung for rung in reversed(ladder.rungs) if not source.why_not(rung)), ladder[0])
    return source.scene(coarsest), ladder.rungs[: coarsest.index + 1]


def _with_conditions(cfg: DictConfig, source: Source, rungs: Sequence[Rung]) -> list[Rung]:
    """Return the magnifications that have conditions.

    Raises:
        DataError: none has, or not the one that was asked for.
    """
    reasons = {rung: source.why_not(rung) for rung in rungs}
    kept = [rung for rung, reason in reasons.items() if not reason]
    refused = [reason for reason in reasons.values() if reason]
    if refused and (not kept or cfg.magnification is not None):
        raise DataError(refused[0])
    for reason in refused if is_first_process() else ():
        print(f"left out: {reason}")
    return kept


def _arrangement(cfg: DictConfig, source: Source, rungs: Sequence[Rung]) -> Arrangement:
    """Return how conditions are shared out: ``n`` patches of chosen places, where nothing else was asked for.

    Raises:
        ConfigError: a strip needs two conditions.
    """
    from zoomldm.sampling.arrangement import OneEach, Strips, Variations

    num_conditions = min((count for rung in rungs if (count := source.count(rung)) is not None), default=None)
    if cfg.interpolate:
        if num_conditions is not None and num_conditions < 2:
            raise ConfigError(
                f"interpolate={cfg.interpolate}: leads from one condition to another, and there is one; give two "
                "(source.path=[a.png,b.png], source.x=[…,…] source.y=[…,…])"
            )
        return Strips(cfg.interpolate)
    if cfg.variations:
        return Variations(cfg.variations)
    return Variations(-(-cfg.n // num_conditions)) if source.is_chosen and num_conditions else OneEach()
