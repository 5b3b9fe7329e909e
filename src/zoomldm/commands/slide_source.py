"""What slide.py's ``source``, ``mask``, ``stays`` and ``other`` mean. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.commands.job import option, plain
from zoomldm.commands.requests import stored_config
from zoomldm.commands.sample import made_source
from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError
from zoomldm.sampling.sources.base import Source

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig

    from zoomldm.canvas.given import Given
    from zoomldm.canvas.plan import Level

OF_A_PLACE = ("mask", "stays", "other", "other_at")
"""What has no meaning where slides are drawn out of nothing."""


def source_of(cfg: DictConfig) -> Source | None:
    """Make the source of the place that is drawn; None: out of nothing.

    Raises:
        UserError: it cannot be read, or has no place.
    """
    chosen = option(cfg, "source")
    kind = chosen.target(Source)
    if kind.needs_edm:
        return None
    if kind.needs_shards:
        raise ConfigError(f"source={chosen.name}: shards know no neighbours; choose source=generated, image or slide")
    return _made(cfg, chosen)


def _made(cfg: DictConfig, chosen: Option) -> Source:
    return made_source(cfg, chosen, stored_config(cfg))


def check_place(cfg: DictConfig) -> None:
    """Refuse words that contradict each other.

    Raises:
        ConfigError: says which.
    """
    if cfg.mask is not None and cfg.stays is not None:
        raise ConfigError("mask= and stays= say the same, from both sides; give one of them")
    if cfg.other is not None and cfg.mask is None and cfg.stays is None:
        raise ConfigError("other= gives its tokens to what is drawn of the place: add mask=all, mask=PNG or stays=")
    if cfg.other_at is not None and cfg.other is None:
        raise ConfigError("other_at= belongs to other=, the place whose tokens are taken there")


def given_levels(cfg: DictConfig, levels: Sequence[Level]) -> Sequence[Level]:
    """Return the levels of which something is known beforehand: the roots, with a mask all."""
    if option(cfg, "source").target(Source).needs_edm:
        return []
    return levels[:1] if cfg.mask is None and cfg.stays is None else levels


def given_of(cfg: DictConfig, source: Source, levels: Sequence[Level]) -> Given:
    """Read the place that is drawn.

    Raises:
        UserError: it lies off the slide, is glass, or is smaller than what was asked for; a mask of another size.
    """
    from zoomldm.canvas.given import Given

    drawn, size = _drawn(cfg, levels[-1]), (levels[0].rows, levels[0].columns)
    rungs = [level.rung for level in given_levels(cfg, levels)]
    areas = source.area(rungs, *size)
    facts = {"source": source.label}
    if areas[0].conditions is not None:
        meta = areas[0].conditions.meta[0]
        facts |= {"slide": meta.slide, "x_px0": str(meta.x_px0), "y_px0": str(meta.y_px0)}
    other = {}
    if cfg.other is not None:
        ladder_of = {level.rung.magnification: level.rung for level in levels}
        asked = list(ladder_of) if cfg.other_at is None else list(cfg.other_at)
        if unknown := [one for one in asked if one not in ladder_of]:
            raise ConfigError(f"other_at={unknown}: expected some of {', '.join(f'{one:g}' for one in ladder_of)}")
        chosen = option(cfg, "source")
        changed = replace(chosen, section={**chosen.section, **plain(cfg.other)})
        found = _made(cfg, changed).area(rungs, *size)
        other = {area.rung.magnification: area for area in found if area.rung.magnification in asked}
    return Given(areas=areas, drawn=drawn, other=other, facts=facts)


def _drawn(cfg: DictConfig, level: Level) -> np.ndarray | None:
    """Return which pixels of the finest level are drawn anew, bool (h, w); None: mask= and stays= say nothing."""
    import numpy as np

    if cfg.mask is None and cfg.stays is None:
        return None
    shape = (level.height_px, level.width_px)
    if cfg.stays is not None:
        return ~_box("stays", plain(cfg.stays), shape)
    mask = plain(cfg.mask)
    if mask == "all":
        return np.ones(shape, bool)
    drawn = _box("mask", mask, shape) if isinstance(mask, list) else _picture(Path(str(mask)).expanduser(), level)
    if not drawn.any():
        raise ConfigError(f"mask={mask}: has nothing white, so nothing would be drawn")
    return drawn


def _box(key: str, box: Any, shape: tuple[int, int]) -> np.ndarray:
    import numpy as np

    is_box = isinstance(box, list) and len(box) == 4 and all(type(one) is int and one >= 0 for one in box)
    if is_box:
        left, top, width, height = box
        if width and height and left + width <= shape[1] and top + height <= shape[0]:
            inside = np.zeros(shape, bool)
            inside[top : top + height, left : left + width] = True
            return inside
    raise ConfigError(
        f"{key}={box}: expected [left,top,width,height] in pixels of target=, inside {shape[1]} x {shape[0]} px"
    )


def _picture(path: Path, level: Level) -> np.ndarray:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            white = np.asarray(image.convert("L")) > 127
    except (OSError, ValueError) as error:
        raise DataError(
            f"mask={path}: cannot be read as a picture ({error}); give a PNG, white where is drawn"
        ) from error
    if white.shape != (level.height_px, level.width_px):
        raise DataError(
            f"mask={path}: {white.shape[1]} x {white.shape[0]} px, and the region has {level.width_px} x "
            f"{level.height_px} at {level.rung.label}; give a mask of that size"
        )
    return white
