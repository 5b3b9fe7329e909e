"""The numbers of slide.py's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_numbers(cfg: DictConfig) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: names the key, its value and what was expected.
    """
    for key, value, high in (
        ("agreement.start", cfg.agreement.start, 1),
        ("agreement.until", cfg.agreement.until, 1),
        ("overlap", cfg.overlap, 1),
        ("glass.brightness", cfg.glass.brightness, 255),
        ("glass.chroma", cfg.glass.chroma, 255),
        ("zoom.guidance_scale", cfg.zoom.guidance_scale, 100),
    ):
        if not 0 <= value <= high:
            raise ConfigError(f"{key}={value}: expected a number from 0 to {high}")
    if cfg.agreement.start == 0:
        raise ConfigError("agreement.start=0: nothing would be drawn; expected above 0")
    for key, value, least in (
        ("agreement.reach", cfg.agreement.reach, 1),
        ("agreement.final", cfg.agreement.final, 0),
        ("halo", cfg.halo, 0),
        ("zoom.steps", cfg.zoom.steps, 1),
        ("coarse.steps", cfg.coarse.steps, 1),
        ("coarse.reach", cfg.coarse.reach, 1),
        ("coarse.final", cfg.coarse.final, 0),
        ("inversion.steps", cfg.inversion.steps, 1),
        ("inversion.draws", cfg.inversion.draws, 1),
        ("inversion.prior", cfg.inversion.prior, 0),
    ):
        if value < least:
            raise ConfigError(f"{key}={value}: expected a whole number of {least} or more")
    if not 0 < cfg.coarse.guidance_scale <= 100:
        raise ConfigError(f"coarse.guidance_scale={cfg.coarse.guidance_scale}: expected a number above 0, at most 100")
    if cfg.coarse.to is not None and cfg.coarse.to <= 0:
        raise ConfigError(f"coarse.to={cfg.coarse.to}: expected a magnification, or null for none")
    if 2 * cfg.halo > cfg.block:
        raise ConfigError(f"halo={cfg.halo}: expected at most half of block={cfg.block}")
    if cfg.compression not in ("deflate", "jpeg"):
        raise ConfigError(f"compression={cfg.compression}: expected deflate or jpeg")
