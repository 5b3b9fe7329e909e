"""Synthetic patches on disk: PNGs and a contact sheet for each magnification.

Legend: b batch, p patch side (px).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from PIL import Image

from zoomldm.data.batch import Batch
from zoomldm.files import write_atomically
from zoomldm.ladder import Rung
from zoomldm.sampling.conditions import Conditions
from zoomldm.sampling.generator import PatchGenerator, sample_number
from zoomldm.sampling.pictures import contact_sheet, patch_png, png_bytes
from zoomldm.sampling.production import Production

NUM_ON_SHEET = 64
NUM_WRITERS = 4
"""Threads that write PNGs while the next batch is being made."""


@dataclass(frozen=True)
class Part:
    """Patches ``start`` up to ``stop`` of a magnification."""

    rung: Rung
    start: int
    stop: int

    @property
    def places(self) -> range:
        """Their numbers."""
        return range(self.start, self.stop)


def write_samples(
    generator: PatchGenerator,
    conditions: Conditions,
    rungs: Iterable[Rung],
    *,
    num: int,
    batch_size: int,
    name: str,
    folder_of: Callable[[Rung], Path],
    fabric: Fabric,
) -> list[Path]:
    """Write ``num`` patches of each magnification; return the paths of the contact sheets, in the first process.

    Args:
        name: of the model, for titles.
        folder_of: where the patches of a magnification go.
        fabric: the processes that share the work.
    """
    counts = {rung: conditions.count(rung, num) for rung in rungs}
    is_first = fabric.global_rank == 0
    if is_first:
        _say_what_is_missing(counts, num, conditions.source)

    def make(part: Part, read: Batch | None) -> np.ndarray:
        return conditions.synthesise(generator, part.rung, [sample_number(part.rung, i) for i in part.places], read)

    with ThreadPoolExecutor(NUM_WRITERS) as writers:

        def keep(part: Part, images: np.ndarray) -> None:
            paths = [_path(folder_of(part.rung), place) for place in part.places]
            list(writers.map(lambda path, patch: write_atomically(path, patch_png(patch)), paths, images))

        Production[Part, Batch | None](
            size=lambda part: len(part.places),
            read=lambda part: conditions.read(generator, part.rung, part.start, part.stop),
            make=make,
            keep=keep,
            passes=generator.passes,
        ).run(_parts(counts, batch_size), fabric)
    if not is_first:
        return []
    title = f"{name}, {{}}, {conditions.name} conditions, seed {generator.seed}"
    found = {rung: count for rung, count in counts.items() if count}
    return [_sheet(conditions, r, n, folder_of(r), title.format(r.label)) for r, n in found.items()]


def _parts(counts: dict[Rung, int], size: int) -> list[Part]:
    return [
        Part(rung, start, min(start + size, count)) for rung, count in counts.items() for start in range(0, count, size)
    ]


def _say_what_is_missing(counts: dict[Rung, int], num: int, source: str) -> None:
    for rung, count in counts.items():
        if not count:
            print(f"{rung.label}: no {source} to take conditions from; left out")
        elif count < num:
            print(f"{rung.label}: there are {count} {source} to take conditions from, {num} were asked for")


def _sheet(conditions: Conditions, rung: Rung, num: int, folder: Path, title: str) -> Path:
    shown = min(num, NUM_ON_SHEET)
    images = np.stack([np.asarray(Image.open(_path(folder, place))) for place in range(shown)])
    sheet = contact_sheet(images, title=title, references=conditions.references(rung, shown))
    path = folder / "contact_sheet.png"
    write_atomically(path, png_bytes(sheet))
    print(f"{rung.label}: {num} patches in {folder}, the first {shown} on contact_sheet.png")
    return path


def _path(folder: Path, place: int) -> Path:
    return folder / f"{place:05d}.png"
