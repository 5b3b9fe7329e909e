"""What evaluate.py, sample.py and export.py read from their configuration in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoomldm.commands.job import allowed, check_seed, option, plain
from zoomldm.config import Option, options_of
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.run import find_run
from zoomldm.sampling.settings import EDM_SCALE, interval_of, scales_of
from zoomldm.stages.packed import PackedModel

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.stages.trained import HowToSample


def section(cfg: DictConfig, group: str) -> dict[str, Any] | None:
    """Return the option that was chosen in a group; None where none was."""
    return plain(cfg.get(group)) or None


def packed_model(cfg: DictConfig) -> PackedModel | None:
    """Return the packed model that was named (``model=reference``); None where none was."""
    return option(cfg, "model").make(PackedModel) if section(cfg, "model") else None


def stored_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration of the ZoomLDM that was named: of a packed model, or of a run.

    Raises:
        UserError: there is none.
    """
    packed = packed_model(cfg)
    return packed.config if packed else find_run(cfg.paths.runs, "zoomldm", cfg.run).config


def data_root(cfg: DictConfig) -> str | None:
    """Return the folder of the data set that was named; None for the run's own."""
    data = section(cfg, "data")
    return data["root"] if data else None


def options_named(cfg: DictConfig, group: str) -> list[Option]:
    """Return the options of a group of which several are chosen, in their order.

    Raises:
        ConfigError: none is.
    """
    options = options_of(group, section(cfg, group) or {}, allowed(cfg))
    if not options:
        raise ConfigError(f"{group}=[]: choose one at least")
    return list(options.values())


def hardware_of(cfg: DictConfig, trained: Mapping[str, Any] | None = None) -> FabricSettings:
    """Return where the models are sampled and in which precision: that of the run's training where none was asked for.

    Args:
        trained: the run's configuration; None where there is no run.
    """
    settings = FabricSettings(**plain(cfg.fabric))
    if settings.precision != "auto" or not trained:
        return settings
    return replace(settings, precision=trained.get("fabric", {}).get("precision", "auto"))


def how_to_sample(cfg: DictConfig, hardware: FabricSettings, fabric: Fabric) -> HowToSample:
    """Return how the models are sampled."""
    from zoomldm.sampling.compute import Compute
    from zoomldm.stages.trained import HowToSample

    return HowToSample(
        solver=option(cfg, "solver") if section(cfg, "solver") else None,
        steps=cfg.sampling.steps,
        guidance_scale=plain(cfg.sampling.guidance_scale),
        guidance_interval=plain(cfg.sampling.guidance_interval),
        edm_guidance_scale=plain(cfg.sampling).get("edm_guidance_scale"),
        seed=cfg.seed,
        compute=Compute.of(hardware, fabric.device),
    )


def check_sampling(cfg: DictConfig, least: Mapping[str, int]) -> None:
    """Refuse senseless numbers.

    Args:
        least: by key the smallest whole number that makes sense.
    """
    check_seed(cfg.seed)
    for key, minimum in least.items():
        value = cfg[key]
        if value is not None and not (isinstance(value, int) and value >= minimum):
            raise ConfigError(f"{key}={value}: expected a whole number of {minimum} or more")
    if cfg.sampling.steps is not None and not cfg.sampling.steps > 0:
        raise ConfigError(f"sampling.steps={cfg.sampling.steps}: expected a number above 0")
    FabricSettings(**plain(cfg.fabric))


def check_steps(trained: Mapping[str, Any], steps: Mapping[str, int | None]) -> None:
    """Refuse more sampling steps than the noise schedule of a trained model has.

    Args:
        trained: its configuration; steps: by the key that says them.
    """
    most = (trained.get("schedule") or {}).get("num_timesteps")
    for key, value in steps.items():
        if most and value is not None and value > most:
            raise ConfigError(f"{key}={value}: expected {most} or fewer, the timesteps of the model's noise schedule")


def check_guidance(cfg: DictConfig, ladder: Ladder) -> None:
    """Refuse guidance that makes no sense at the magnifications of a ladder."""
    if cfg.sampling.guidance_scale is not None:
        scales_of(plain(cfg.sampling.guidance_scale), ladder)
    if (scale := plain(cfg.sampling).get("edm_guidance_scale")) is not None:
        scales_of(scale, ladder, EDM_SCALE)
    interval_of(plain(cfg.sampling.guidance_interval))


def check_one_guidance(cfg: DictConfig, ladder: Ladder) -> None:
    """Refuse guidance that makes no sense, or differs by magnification (a slide has one for all levels)."""
    check_guidance(cfg, ladder)
    scale = plain(cfg.sampling.guidance_scale)
    scale = stored_config(cfg)["sampling"]["guidance_scale"] if scale is None else scale
    if isinstance(scale, dict):
        raise ConfigError(
            f"sampling.guidance_scale={scale}: all levels of a slide are drawn with one; give a number, such as "
            "sampling.guidance_scale=1"
        )


def check_magnifications(ladder: Ladder, magnifications: Sequence[float]) -> None:
    """Refuse magnifications that are not on a ladder."""
    for magnification in magnifications:
        ladder.rung_of(magnification)
