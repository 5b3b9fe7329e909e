"""What a command takes from its configuration: plain values, options, and the job that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoomldm.config import Option
from zoomldm.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def plain(section: object) -> Any:
    """Return a section as plain values, with everything that refers to another key resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section


def check_seed(seed: int) -> None:
    """Refuse a seed that not every generator of random numbers takes.

    Raises:
        ConfigError: it is below 0 or has more than 32 bits.
    """
    if not 0 <= seed < 1 << 32:
        raise ConfigError(f"seed={seed}: expected a whole number from 0 to {(1 << 32) - 1}")


def allowed(cfg: DictConfig) -> tuple[str, ...]:
    """Return the packages outside this repository whose classes this command line allows (``allow_code=``)."""
    return tuple(cfg.allow_code)


def option(cfg: DictConfig, group: str) -> Option:
    """Return the option of a group that the command line chose."""
    return Option(group, plain(cfg[group]), allowed(cfg))


def stored_option(config: Mapping[str, Any], group: str, cfg: DictConfig) -> Option:
    """Return the option of a group that a stored configuration holds; what it may import, the command line says."""
    return Option(group, config[group], allowed(cfg))


def own_folder_words() -> list[str]:
    """Return the words that make another process see the user's own groups (--config-dir), as this job does."""
    from hydra.core.hydra_config import HydraConfig

    sources = HydraConfig.get().runtime.config_sources
    return [word for one in sources if one.provider == "command-line" for word in ("--config-dir", one.path)]


def own_command(script: str) -> list[str]:
    """Return the command line that runs this job alone, for the processes of several devices."""
    from hydra.core.hydra_config import HydraConfig

    from zoomldm.launch.supervise import job_command

    overrides = HydraConfig.get().overrides
    return job_command(script, [*own_folder_words(), *overrides.task], overrides.hydra)


def is_job_of_sweep() -> bool:
    """Say whether this is one of several jobs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
