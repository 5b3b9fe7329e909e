"""Synthetic patches from a source to disk, with a contact sheet for each magnification."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from zoomldm.data.batch import Batch
from zoomldm.files import write_atomically
from zoomldm.ladder import Rung
from zoomldm.sampling.making import Making
from zoomldm.sampling.outputs.base import Made, Output
from zoomldm.sampling.pictures import Column, contact_sheet, panel, png_bytes
from zoomldm.sampling.production import Production

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
class Sampler(Making):
    """What is sampled, of what, and where to.

    Attributes:
        name: of the model, for titles.
        folder_of: where the patches of a magnification go.
    """

    output: Output
    name: str
    folder_of: Callable[[Rung], Path]

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
            read=lambda part: self.read(part.rung, part.places),
            make=lambda part, read: self.make(part.rung, part.places, read),
            keep=lambda part, made: self.output.keep(self.folder_of(part.rung), made),
            passes=lambda part: self.generator.passes(part.rung.index),
        ).run(parts, fabric)
        if fabric.global_rank != 0:
            return []
        return [self._finished(rung, count) for rung, count in counts.items() if count]

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
            references=self.references(rung, range(shown)),
            num_columns=self.arrangement.row,
        )
        path = folder / "contact_sheet.png"
        write_atomically(path, png_bytes(sheet))
        print(f"{rung.label}: {num} patches in {folder}, the first {shown} on contact_sheet.png")
        return path

    def write_scenes(self, rungs: Iterable[Rung], path: Path, *, num: int) -> Path:
        """Lay the first patches of all magnifications out, a scene a row, with the real ones where there are some."""
        columns = []
        for rung in sorted(rungs, key=lambda rung: -rung.index):
            shown = min(NUM_SCENES, self.arrangement.num_patches(num, self.source.count(rung)))
            references = self.references(rung, range(shown))
            if references is not None:
                columns.append(Column("reference", list(references), rung.label))
            columns.append(Column("synthetic", list(self.output.images(self.folder_of(rung), shown)), rung.label))
        title = f"{self.name}, scenes of {self.source.origin}, seed {self.generator.seed}"
        write_atomically(path, png_bytes(panel(columns, title=title)))
        print(f"scenes, a row each: {path}")
        return path
