"""view.py: a page with one or two slides. Nothing here or below it imports torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.viewer.pyramid import Pyramid


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be shown.

    Raises:
        UserError: no slide, or more than two; one that OpenSlide cannot read; senseless numbers; Bokeh is missing.
    """
    for key, low, high in (("port", 1, 65535), ("patch_px", 8, 4096)):
        if not low <= cfg[key] <= high:
            raise ConfigError(f"{key}={cfg[key]}: expected a whole number from {low} to {high}")
    if cfg.mpp is not None and not 0 < cfg.mpp <= 100:
        raise ConfigError(f"mpp={cfg.mpp:g}: expected micrometres a pixel, above 0 and at most 100")
    if not 1 <= len(cfg.slides) <= 2:
        raise ConfigError(f"slides=[{','.join(cfg.slides)}]: expected one file or two, slides=[a.ome.tiff,b.svs]")
    if missing := [path for path in cfg.slides if not Path(path).expanduser().is_file()]:
        raise ConfigError(f"slides={missing[0]}: no such file")
    if all(slide.says_its_scale for slide in slides_of(cfg)) and cfg.mpp is not None:
        raise ConfigError(f"mpp={cfg.mpp:g}: every slide says its own scale, so it has no effect")
    if importlib.util.find_spec("bokeh") is None:
        raise ConfigError(
            "the viewer needs Bokeh, which is not installed: `make view` does, or `pip install zoomldm[viewer]`"
        )


def slides_of(cfg: DictConfig) -> list[Pyramid]:
    """Open the slides.

    Raises:
        DataError: OpenSlide cannot read one, or its scale is unknown.
    """
    from zoomldm.viewer.pyramid import Pyramid

    return [Pyramid(Path(path).expanduser(), mpp=cfg.mpp) for path in cfg.slides]


def run(cfg: DictConfig) -> None:
    """Show the slides until Ctrl-C."""
    from zoomldm.viewer.page import page_of
    from zoomldm.viewer.server import serve

    slides = slides_of(cfg)
    serve(slides, page_of(slides, patch_px=cfg.patch_px), port=cfg.port)
