"""Synthetic patches from a source to disk, with a contact sheet for each magnification.

Legend: b batch, p patch side (px), n tokens, d token width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from zoomldm.data.batch import Batch
from zoomldm.data.schema import make_key
from zoomldm.files import write_atomically
from zoomldm.ladder import Rung
from zoomldm.sampling.arrangement import Arrangement, Blend
from zoomldm.sampling.generator import PatchGenerator, sample_number
from zoomldm.sampling.outputs.base import Made, Output
from zoomldm.sampling.pictures import Column, contact_sheet, panel, png_bytes
from zoomldm.sampling.production import Production
from zoomldm.sampling.sources.base import Source

NUM_ON_SHEET = 64
NUM_SCENES = 8
"""Rows of the picture of scenes."""


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


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """What is sampled, of what, and where to.

    Attributes:
        name: of the model, for titles.
        facts: of all patches alike, as JSON values: what the model is and how it is sampled.
        folder_of: where the patches of a magnification go.
    """

    generator: PatchGenerator
    source: Source
    output: Output
    name: str
    folder_of: Callable[[Rung], Path]
    arrangement: Arrangement
    facts: Mapping[str, Any]

    def write(self, rungs: Iterable[Rung], *, num: int, batch_size: int, fabric: Fabric) -> list[Path]:
        """Write ``num`` patches of each magnification; return the paths of the contact sheets, in the first process.

        Args:
            fabric: the processes that share the work.
        """
        counts = {rung: self.arrangement.num_patches(num, self.source.count(rung)) for rung in rungs}
        if fabric.global_rank == 0:
            self._say_what_is_missing(counts, num)
            for rung in counts:
                self.output.begin(self.folder_of(rung))
        parts = [
            Part(rung, start, min(start + batch_size, count))
            for rung, count in counts.items()
            for start in range(0, count, batch_size)
        ]
        Production[Part, Batch | None, Made](
            size=lambda part: len(part.places),
            read=self._read,
            make=self._make,
            keep=lambda part, made: self.output.keep(self.folder_of(part.rung), made),
            passes=self.generator.passes,
        ).run(parts, fabric)
        if fabric.global_rank != 0:
            return []
        return [self._finished(rung, count) for rung, count in counts.items() if count]

    def _read(self, part: Part) -> Batch | None:
        wanted = self.arrangement.conditions(part.places)
        return self.source.read(part.rung, wanted.start, wanted.stop, with_grids=self.generator.uses_grid)

    def _make(self, part: Part, read: Batch | None) -> Made:
        rung, wanted = part.rung, self.arrangement.conditions(part.places)
        of_conditions = self.source.tokens(self.generator, rung, [sample_number(rung, i) for i in wanted], read)
        tokens = self.arrangement.tokens(of_conditions, part.places)
        numbers = [sample_number(rung, self.arrangement.noise(place)) for place in part.places]
        return Made(
            places=part.places,
            images=self.generator.from_tokens(tokens, numbers),
            tokens=tokens.to(torch.float16).cpu().numpy(),
            facts=[self._facts(rung, place, wanted.start, read) for place in part.places],
        )

    def _facts(self, rung: Rung, place: int, first: int, read: Batch | None) -> dict[str, Any]:
        """Return how a patch was made; of its nearer condition the labels, which are the patch's."""
        blend = self.arrangement.blend(place)
        nearer = blend.first if blend.part < 0.5 else blend.second
        return {
            **self.facts,
            "key": make_key(f"{self.source.name}-seed{self.generator.seed}", rung.grid_side, place, 0),
            "magnification": rung.magnification,
            "mpp": rung.mpp,
            "number": place,
            "noise": self.arrangement.noise(place),
            "conditions": [_condition(i, part, read, first) for i, part in _parts(blend)],
            "labels": dict(read.meta[nearer - first].labels) if read is not None and read.meta else {},
        }

    def _say_what_is_missing(self, counts: Mapping[Rung, int], num: int) -> None:
        for rung, count in counts.items():
            if count < min(num, self.arrangement.num_patches(num, None)):
                print(
                    f"{rung.label}: there are {self.source.count(rung)} {self.source.origin} to take conditions from, "
                    f"{num} patches were asked for"
                )

    def _finished(self, rung: Rung, num: int) -> Path:
        folder, shown = self.folder_of(rung), min(num, NUM_ON_SHEET)
        self.output.finish(folder, num)
        title = f"{self.name}, {rung.label}, {self.source.name} conditions, seed {self.generator.seed}"
        sheet = contact_sheet(
            self.output.images(folder, shown),
            title=title,
            references=self._references(rung, shown),
            num_columns=self.arrangement.row,
        )
        path = folder / "contact_sheet.png"
        write_atomically(path, png_bytes(sheet))
        print(f"{rung.label}: {num} patches in {folder}, the first {shown} on contact_sheet.png")
        return path

    def _references(self, rung: Rung, num: int) -> np.ndarray | None:
        """Return the real patch beside each synthetic one; none where a patch has parts of two conditions."""
        blends = [self.arrangement.blend(place) for place in range(num)]
        if any(blend.part for blend in blends):
            return None
        found = self.source.references(rung, blends[-1].first + 1)
        return None if found is None else found[[blend.first for blend in blends]]

    def write_scenes(self, rungs: Iterable[Rung], path: Path, *, num: int) -> Path:
        """Lay the first patches of all magnifications out, a scene a row, with the real ones where there are some."""
        columns = []
        for rung in sorted(rungs, key=lambda rung: -rung.index):
            shown = min(NUM_SCENES, self.arrangement.num_patches(num, self.source.count(rung)))
            references = self._references(rung, shown)
            if references is not None:
                columns.append(Column("reference", list(references), rung.label))
            columns.append(Column("synthetic", list(self.output.images(self.folder_of(rung), shown)), rung.label))
        title = f"{self.name}, scenes of {self.source.origin}, seed {self.generator.seed}"
        write_atomically(path, png_bytes(panel(columns, title=title)))
        print(f"scenes, a row each: {path}")
        return path


def _parts(blend: Blend) -> list[tuple[int, float]]:
    """Return the conditions of a blend with their parts."""
    both = [(blend.first, 1 - blend.part), (blend.second, blend.part)]
    return [(number, round(part, 6)) for number, part in both if part]


def _condition(number: int, part: float, read: Batch | None, first: int) -> dict[str, Any]:
    """Return which condition it is, its part, and where the patch that has it lies, if one has."""
    found: dict[str, Any] = {"number": number, "part": part}
    if read is not None and read.meta:
        meta = read.meta[number - first]
        places = ("key", "slide", "patient", "split", "x_px0", "y_px0", "region_px0")
        found |= {name: getattr(meta, name) for name in places}
    return found
