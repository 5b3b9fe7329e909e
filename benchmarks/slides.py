"""What the benchmarks of slide.py share: slides painted of patients that no model knows, and what slide.py draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from data_prep.demo.slides import main as paint
from zoomldm.canvas.plan import Level
from zoomldm.canvas.store import CanvasStore
from zoomldm.commands import slide
from zoomldm.commands.slide_source import source_of
from zoomldm.composing import compose_jobs

SEED, SIDE_PX, PATCH_PX = 7, 4096, 32
"""Of the painted slides: a seed that no model was trained with."""


def painted(folder: Path, num: int) -> list[Path]:
    """Return painted slides, drawn where they are not there."""
    if not folder.is_dir():
        paint([f"folder={folder}", f"num_patients={num}", f"seed={SEED}", f"side_px={SIDE_PX}", "workers=1"])
    return sorted(folder.glob("*.tif"))


def drawn(work: Path, *words: str) -> tuple[list[Level], list[CanvasStore]]:
    """Run slide.py with the model that ships, or go on; return its levels, and what it keeps of each slide."""
    (cfg,) = compose_jobs("slide", [f"out={work}.ome.tiff", "model=reference", "keep=true", *words])
    slide.check(cfg)
    slide.run(cfg)
    works = [path.with_name(path.name.replace(".ome.tiff", ".work")) for path in slide.paths_of(cfg)]
    return slide.drawn_levels(cfg, source_of(cfg)), [CanvasStore(one, block=cfg.block) for one in works]


def patches(image: np.ndarray) -> np.ndarray:
    """Cut (h, w, 3) into patches (n, p, p, 3), row by row."""
    return rearrange(image, "(h y) (w x) c -> (h w) y x c", y=PATCH_PX, x=PATCH_PX)


def gradient(image: np.ndarray) -> float:
    """Return the mean difference between neighbouring pixels, grey levels."""
    return float(np.abs(np.diff(image.astype(float), axis=0)).mean())


def sheet(rows: Sequence[Sequence[np.ndarray]], path: Path, side: int = 192) -> None:
    """Write pictures side by side, each as large as the others."""
    gap, lines = np.full((side, 6, 3), 255, np.uint8), []
    for row in rows:
        ways = [Image.NEAREST if len(one) < side else Image.BOX for one in row]
        shown = [np.asarray(Image.fromarray(one).resize((side, side), way)) for one, way in zip(row, ways)]
        lines.append(np.concatenate([part for one in shown for part in (one, gap)][:-1], axis=1))
    between = np.full((6, lines[0].shape[1], 3), 255, np.uint8)
    whole = np.concatenate([part for line in lines for part in (line, between)][:-1])
    Image.fromarray(whole).save(path, quality=90)
    print(path)
