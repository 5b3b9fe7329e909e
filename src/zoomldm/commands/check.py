"""What must be there before a training run starts: all faults in one message, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.job import allowed, check_seed, plain
from zoomldm.commands.requests import check_guidance
from zoomldm.commands.steps import DRAWN
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import ConfigError, UserError
from zoomldm.ladder import Ladder
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.identity import check_run_name
from zoomldm.stages.base import Stage, stage_of
from zoomldm.training.settings import LoopSettings, OptimSettings

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_train(cfg: DictConfig) -> None:
    """Refuse a configuration that makes no sense or whose files are missing.

    Raises:
        ConfigError: every fault found, one a line.
    """
    stage = stage_in(cfg)  # first, since what is no stage (model=reference) brings no settings to be checked either
    _refuse(combination_faults(cfg))
    manifest, faults = _data_set(cfg)
    _refuse([*_missing_keys(cfg, stage), *faults, *stage.lacking(manifest)])
    _refuse(stage.mismatches())


def stage_in(cfg: DictConfig) -> Stage:
    """Return the stage that ``model=…`` chooses."""
    return stage_of({key: plain(cfg[key]) for key in cfg if key != "hydra"}, allowed(cfg))


def combination_faults(cfg: DictConfig) -> list[str]:
    """Return what contradicts itself in a configuration, whatever files there are."""
    ladder = Ladder(**plain(cfg.data.ladder))
    faults = [*_magnification_faults(cfg, ladder), *_settings_faults(cfg, ladder)]
    return [*faults, *stage_in(cfg).contradictions(ladder)]


def _magnification_faults(cfg: DictConfig, ladder: Ladder) -> Iterator[str]:
    from omegaconf import OmegaConf

    if cfg.training.name != "single":
        for key in ("magnification", "match"):
            value, choice = cfg.training[key], cfg.training.name
            if value is not None:
                yield f"training.{key}={value}: training={choice} doesn't look at it; training=single does"
        return
    if OmegaConf.is_missing(cfg.training, "magnification"):
        choice = ", ".join(f"{m:g}" for m in ladder.magnifications)
        yield f"training=single needs a magnification: training.magnification=0.3125 (one of {choice})"
        return
    try:
        ladder.rung_of(cfg.training.magnification)
    except UserError as error:
        yield f"training.{error}"


def _settings_faults(cfg: DictConfig, ladder: Ladder) -> Iterator[str]:
    checks = [partial(check_seed, cfg.seed), *([partial(check_run_name, str(cfg.run_name))] if cfg.run_name else [])]
    kinds: dict[str, Callable[..., object]] = {"fabric": FabricSettings, "optim": OptimSettings, "train": LoopSettings}
    checks += [partial(check_guidance, cfg, ladder)] if cfg.sampling else []
    for check in [*checks, *(partial(kind, **plain(cfg[section])) for section, kind in kinds.items())]:
        try:
            check()
        except ConfigError as error:
            yield from str(error).splitlines()


def _missing_keys(cfg: DictConfig, stage: Stage) -> Iterator[str]:
    from omegaconf import OmegaConf

    for key in sorted(OmegaConf.missing_keys(cfg)):
        if not key.startswith(("hydra", "training.")):
            meaning = stage.explained.get(key, "a value")
            yield f"{key} is not set: give {meaning}: {key}=PATH" + (" or null" if "null" in meaning else "")


def _data_set(cfg: DictConfig) -> tuple[Manifest | None, list[str]]:
    """Return the data set's manifest, None where there is none yet, and what is wrong with it."""
    root = Path(cfg.data.root)
    if not (root / MANIFEST_NAME).is_file():
        if cfg.data.name in DRAWN:
            return None, []  # made on the way
        return None, [
            f"no shards in {root} (data.root says where they lie; there is no {MANIFEST_NAME}): "
            "make them with "
            f"`python data_prep/prepare.py data={cfg.data.name} slides=FOLDER encoder={cfg.encoder.name}`"
        ]
    try:
        manifest = Manifest.load(root)
    except UserError as error:
        return None, [str(error)]
    if cfg.training.name == "single":
        rung = manifest.ladder.rung_of(cfg.training.magnification)
        if rung.magnification not in manifest.magnifications:
            have = ", ".join(f"{m:g}" for m in manifest.magnifications)
            wanted = f"training.magnification={cfg.training.magnification}"
            return manifest, [f"{wanted}: {root} has no training samples there (it has {have})"]
    return manifest, []


def _refuse(faults: Iterable[str]) -> None:
    faults = list(dict.fromkeys(faults))
    if len(faults) == 1:
        raise ConfigError(faults[0])
    if faults:
        raise ConfigError("\n".join([f"{len(faults)} things are missing or wrong:", *(f"  - {one}" for one in faults)]))
