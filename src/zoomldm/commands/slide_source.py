"""What slide.py's ``source``, ``mask``, ``stays``, ``other`` and ``region`` mean. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.canvas.plan import in_part
from zoomldm.commands.job import option, plain
from zoomldm.commands.requests import stored_config
from zoomldm.commands.sample import made_source
from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError
from zoomldm.ladder import Ladder
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
    if cfg.region is not None and (cfg.stays is not None or cfg.mask not in (None, "all")):
        raise ConfigError("region= says where is drawn, and so do stays= and a mask of a part; give one of them")
    if cfg.other is not None and cfg.mask is None and cfg.stays is None:
        raise ConfigError("other= gives its tokens to what is drawn of the place: add mask=all, mask=PNG or stays=")
    if cfg.other_at is not None and cfg.other is None:
        raise ConfigError("other_at= belongs to other=, the place whose tokens are taken there")


def in_region(cfg: DictConfig, levels: Sequence[Level], ladder: Ladder) -> list[Level]:
    """Return the levels as ``region`` and ``overview`` have them drawn: in part, or whole.

    Raises:
        ConfigError: no box on the slide, or no magnification.
    """
    if cfg.region is None:
        return list(levels)
    overview = levels[0].rung if cfg.overview is None else ladder.rung_of(cfg.overview)
    return in_part(levels, _box("region", plain(cfg.region), levels[-1]), overview)


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
    if cfg.stays is not None:
        return ~_inside("stays", plain(cfg.stays), level)
    mask = plain(cfg.mask)
    if mask == "all":
        return np.ones((level.height_px, level.width_px), bool)
    drawn = _inside("mask", mask, level) if isinstance(mask, list) else _picture(Path(str(mask)).expanduser(), level)
    if not drawn.any():
        raise ConfigError(f"mask={mask}: has nothing white, so nothing would be drawn")
    return drawn


def _inside(key: str, box: Any, level: Level) -> np.ndarray:
    """Return where a box lies, bool (h, w)."""
    import numpy as np

    left, top, width, height = _box(key, box, level)
    inside = np.zeros((level.height_px, level.width_px), bool)
    inside[top : top + height, left : left + width] = True
    return inside


def _box(key: str, box: Any, level: Level) -> tuple[int, int, int, int]:
    """Return left, top, width and height in pixels of the finest level."""
    if isinstance(box, list) and len(box) == 4 and all(type(one) is int and one >= 0 for one in box):
        left, top, width, height = box
        if width and height and left + width <= level.width_px and top + height <= level.height_px:
            return left, top, width, height
    raise ConfigError(
        f"{key}={box}: expected [left,top,width,height] in pixels of target=, inside {level.width_px} x "
        f"{level.height_px} px"
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
