"""app.py: a page to play with a trained ZoomLDM. Nothing here imports torch or Gradio before ``run``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.app.requests import Limits
from zoomldm.commands.devices import on_devices
from zoomldm.commands.job import allowed, plain
from zoomldm.commands.requests import data_root, hardware_of, options_named, packed_model, section, stored_config
from zoomldm.config import CONF, Option, option_of, section_of
from zoomldm.data.schema import SPLITS
from zoomldm.errors import ConfigError, near_match
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.run import newest

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.app.answers import Offer
    from zoomldm.app.session import Session
    from zoomldm.stages.trained import TrainedModels


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be shown.

    Raises:
        UserError: no such run, file or split; senseless numbers; Gradio is missing.
    """
    if not 1 <= cfg.port <= 65535:
        raise ConfigError(f"port={cfg.port}: expected a whole number from 1 to 65535")
    if cfg.split not in SPLITS:
        raise ConfigError(f"split={cfg.split}:{near_match(cfg.split, SPLITS)} expected {' or '.join(SPLITS)}")
    for path in cfg.slides or []:
        if not Path(path).expanduser().exists():
            raise ConfigError(f"slides={path}: no such file")
    Limits(**plain(cfg.limits))
    FabricSettings(**plain(cfg.fabric))
    if section(cfg, "model") and (cfg.run or cfg.edm):
        raise ConfigError(f"model={cfg.model.name} is a whole model: leave out run= and edm=")
    stored_config(_with_a_model(cfg))
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(
            "the page needs Gradio, which is not installed: `make app` does, or `pip install zoomldm[app]`"
        )


def run(cfg: DictConfig, command: Sequence[str] = ()) -> None:
    """Show the page until Ctrl-C, from one device."""
    cfg = _with_a_model(cfg)
    if packed := packed_model(cfg):
        print(f"the page shows model={packed.name}, which ships; run=NAME shows a run of yours")
    hardware = replace(hardware_of(cfg, stored_config(cfg)), devices=1, compile=False)
    on_devices(hardware, partial(_run, cfg, hardware), command=command, cache=cfg.paths.cache)


def _with_a_model(cfg: DictConfig) -> DictConfig:
    """Return the configuration with the model that ships, where none is named and no run is there yet."""
    if section(cfg, "model") or cfg.run or cfg.edm or newest(cfg.paths.runs, "zoomldm"):
        return cfg
    from omegaconf import OmegaConf

    return OmegaConf.merge(cfg, section_of("model", "reference"))


def _run(cfg: DictConfig, hardware: FabricSettings, fabric: Fabric) -> None:
    from zoomldm.app.serve import serve

    serve(session_of(cfg, hardware, fabric), port=cfg.port)


def session_of(cfg: DictConfig, hardware: FabricSettings, fabric: Fabric) -> Session:
    """Load the models and return what answers the page's requests.

    Raises:
        UserError: something is missing, or was made with another state of what it stands on.
    """
    from zoomldm.app.session import Session
    from zoomldm.sampling.compute import Compute
    from zoomldm.sampling.outputs.base import Output

    models = _models(cfg)
    return Session(
        models,
        offer=_offer(cfg, models),
        output=option_of("to", "png").make(Output),
        limits=Limits(**plain(cfg.limits)),
        compute=Compute.of(hardware, fabric.device),
        folder=Path(cfg.folder),
    )


def _models(cfg: DictConfig) -> TrainedModels:
    from zoomldm.stages.trained import load_trained

    runs, root = cfg.paths.runs, data_root(cfg)
    if packed := packed_model(cfg):
        return packed.load(runs, data_root=root, wants_edm=packed.has_edm)
    return load_trained(runs, cfg.run, data_root=root, edm=cfg.edm, wants_edm=True, allow=allowed(cfg))


def _offer(cfg: DictConfig, models: TrainedModels) -> Offer:
    """Return what may be chosen on the page: the options of conf/source and conf/solver that the model can have."""
    from zoomldm.app.answers import Offer
    from zoomldm.sampling.sources.base import Source

    known: dict[str, Any] = {
        "manifest": models.manifest,
        "allow": allowed(cfg),
        "encoder": Option("encoder", section(cfg, "encoder") or models.config["encoder"], allowed(cfg)),
        "readers": options_named(cfg, "reader"),
    }
    sources = {name: option.given(**known) for name, option in _options("source").items()}
    sources["oracle"] = replace(sources["oracle"], section={**sources["oracle"].section, "split": cfg.split})
    if not models.manifest.shards:
        sources = {name: option for name, option in sources.items() if not option.target(Source).needs_shards}
    slides = {Path(path).name: str(Path(path).expanduser()) for path in cfg.slides or []}
    for option in sources.values() if not slides else ():
        slides |= option.target(Source).files(models.manifest)
    stored = Option("solver", models.config["solver"], allowed(cfg))
    return Offer(sources=sources, solvers=_options("solver") | {stored.name: stored}, slides=slides)


def _options(group: str) -> dict[str, Option]:
    return {path.stem: option_of(group, path.stem) for path in sorted((CONF / group).glob("*.yaml"))}
