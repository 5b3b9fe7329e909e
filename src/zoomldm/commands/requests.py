"""What evaluate.py, sample.py and export.py read from their configuration in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoomldm.commands.job import allowed, option, plain
from zoomldm.config import Option, options_of
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.stages.trained import HowToSample

PRECISIONS = ("32", "bf16")


def section(cfg: DictConfig, group: str) -> dict[str, Any] | None:
    """Return the option that was chosen in a group; None where none was."""
    return plain(cfg.get(group)) or None


def data_root(cfg: DictConfig) -> str | None:
    """Return the folder of the data set that was named; None for the run's own."""
    data = section(cfg, "data")
    return data["root"] if data else None


def options_named(cfg: DictConfig, group: str) -> list[Option]:
    """Return the options of a group of which several are chosen, in their order.

    Raises:
        ConfigError: none is.
    """
    options = options_of(group, plain(cfg[group]) or {}, allowed(cfg))
    if not options:
        raise ConfigError(f"{group}=[]: choose one at least")
    return list(options.values())


def how_to_sample(cfg: DictConfig) -> HowToSample:
    """Return how the models are sampled.

    Raises:
        ConfigError: a device that is not there.
    """
    from zoomldm.sampling.device import device_of
    from zoomldm.stages.trained import HowToSample

    return HowToSample(
        solver=option(cfg, "solver") if section(cfg, "solver") else None,
        steps=cfg.sampling.steps,
        guidance_scale=cfg.sampling.guidance_scale,
        seed=cfg.seed,
        device=device_of(cfg.device),
        precision=cfg.precision,
    )


def check_sampling(cfg: DictConfig, least: Mapping[str, int]) -> None:
    """Refuse senseless numbers.

    Args:
        least: by key the smallest whole number that makes sense.
    """
    for key, minimum in least.items():
        value = cfg[key]
        if value is not None and not (isinstance(value, int) and value >= minimum):
            raise ConfigError(f"{key}={value}: expected a whole number of {minimum} or more")
    for key in ("steps", "guidance_scale"):
        value = cfg.sampling[key]
        if value is not None and not value > 0:
            raise ConfigError(f"sampling.{key}={value}: expected a number above 0")
    if cfg.precision not in PRECISIONS:
        raise ConfigError(f"precision={cfg.precision}: expected one of {', '.join(PRECISIONS)}")


def check_magnifications(ladder: Ladder, magnifications: Sequence[float]) -> None:
    """Refuse magnifications that are not on a ladder."""
    for magnification in magnifications:
        ladder.rung_of(magnification)
