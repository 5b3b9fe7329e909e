"""Synthetic patches on disk: PNGs and a contact sheet for each magnification."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from zoomldm.files import progress, write_atomically
from zoomldm.ladder import Rung
from zoomldm.sampling.conditions import Conditions
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.sampling.pictures import contact_sheet, patch_png, png_bytes

NUM_ON_SHEET = 64


def write_samples(
    generator: PatchGenerator,
    conditions: Conditions,
    rungs: Iterable[Rung],
    *,
    num: int,
    batch_size: int,
    name: str,
    folder_of: Callable[[Rung], Path],
) -> list[Path]:
    """Write ``num`` patches of each magnification; return the paths of the contact sheets.

    Args:
        name: of the model, for titles.
        folder_of: where the patches of a magnification go.
    """
    sheets = []
    for rung in rungs:
        there = conditions.count(rung, num)
        if not there:
            print(f"{rung.label}: no {conditions.source} to take conditions from; left out")
            continue
        if there < num:
            print(f"{rung.label}: there are {there} {conditions.source} to take conditions from, {num} were asked for")
        total = -(-there // batch_size)
        found = list(
            progress(
                conditions.patches(generator, rung, there, batch_size=batch_size),
                total=total,
                label=rung.label,
                unit="batch",
            )
        )
        images = np.concatenate([one.images for one in found])
        references = [one.references for one in found if one.references is not None]
        title = f"{name}, {rung.label}, {conditions.name} conditions, seed {generator.seed}"
        target = folder_of(rung)
        sheets.append(_write(images, np.concatenate(references) if references else None, target, title))
        print(f"{rung.label}: {len(images)} patches in {target}, all on contact_sheet.png")
    return sheets


def _write(images: np.ndarray, references: np.ndarray | None, folder: Path, title: str) -> Path:
    for i, patch in enumerate(images):
        write_atomically(folder / f"{i:05d}.png", patch_png(patch))
    sheet = contact_sheet(images[:NUM_ON_SHEET], title=title, references=references)
    path = folder / "contact_sheet.png"
    write_atomically(path, png_bytes(sheet))
    return path
