"""Patches as PNGs that say how they were made."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoomldm.files import write_atomically
from zoomldm.sampling.outputs.base import Made, Output
from zoomldm.sampling.pictures import patch_png

NUM_WRITERS = 4
"""Threads that write PNGs while the next batch is being made."""
KEYWORD = "zoomldm"
"""Of the text in a PNG's metadata that holds its facts as JSON."""


class PngOutput(Output):
    """A PNG a patch, 00000.png and so on, its facts in its text metadata."""

    def keep(self, folder: Path, made: Made) -> None:
        def write(place: int, image: np.ndarray, facts: dict[str, Any]) -> None:
            write_atomically(png_path(folder, place), patch_png(image, {KEYWORD: json.dumps(facts)}))

        with ThreadPoolExecutor(NUM_WRITERS) as writers:
            list(writers.map(write, made.places, made.images, made.facts))

    def images(self, folder: Path, num: int) -> np.ndarray:
        return np.stack([np.asarray(Image.open(png_path(folder, place))) for place in range(num)])


def png_path(folder: Path, place: int) -> Path:
    """Return where the patch of a number lies."""
    return folder / f"{place:05d}.png"


def facts_of(path: Path) -> dict[str, Any]:
    """Return how a PNG was made."""
    with Image.open(path) as image:
        return json.loads(image.text[KEYWORD])
