"""How good drawn slides are, level by level, and which part is at fault where they are not: the model that ships.

python benchmarks/canvas.py --data data/reference     tables, figures as JSON, docs/canvas.jpg; goes on where it stopped

Roots are drawn whole down to 1.25x and in part below (region=). Beside them: single patches of the same model, painted
slides of patients that it does not know and what the autoencoder leaves of them, real patches of the data set, and
places of painted slides drawn from 1.25x with one part after the other exchanged for the real one. Distances are to
training patches of the data set; errors leave one root out, or one patient.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.canvas_figures import Figure, Figures, Root, over_roots, tables
from benchmarks.canvas_rows import BOUND, CANVAS, NUM, REAL, REFERENCE, SINGLE, WAYS, Rows
from benchmarks.slides import sheet
from zoomldm.composing import compose_jobs
from zoomldm.config import PROJECT_ROOT
from zoomldm.data.manifest import Manifest
from zoomldm.features.texture import TextureDescriptor
from zoomldm.runs.provenance import provenance
from zoomldm.sampling.generator import images_of

SHOWN_PX = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roots", type=int, default=8)
    parser.add_argument("--data", type=Path, default=PROJECT_ROOT / "data" / "reference", help="real patches")
    parser.add_argument("--work", type=Path, default=PROJECT_ROOT / "cache" / "bench-canvas")
    parser.add_argument("--rows", nargs="+", help="measure these alone; the figures of the others stay")
    parser.add_argument("--docs", type=Path, default=PROJECT_ROOT / "docs", help="where the picture goes")
    chosen = parser.parse_args()
    made = Rows(chosen.work, Manifest.load(chosen.data), chosen.roots)
    measures = Measures(made)
    rows: dict[str, Sequence[Root]] = {}
    steps: dict[str, Callable[[], Sequence[Root]]] = {
        CANVAS: made.canvas,
        SINGLE: made.single,
        "real, other half": lambda: made.patches("train", REFERENCE),
        "real, held out": lambda: made.patches("test", 0),
        REAL: lambda: made.real,
        BOUND: made.reconstructed,
        **{way: lambda way=way: made.places(way) for way in WAYS},
    }
    if unknown := set(chosen.rows or ()) - set(steps):
        parser.error(f"--rows {', '.join(unknown)}: expected some of {', '.join(steps)}")
    for name, make in steps.items():
        if chosen.rows and name not in chosen.rows:
            continue
        began = time.monotonic()
        rows[name] = make()
        measures.measure(name, rows[name])
        print(f"{name}: {time.monotonic() - began:.0f} s")
    print((chosen.work / "canvas.md").read_text())
    if CANVAS in rows and REAL in rows:
        picture(rows, chosen.docs / "canvas.jpg")


class Measures:
    """Measure the rows, and keep the figures where the rows are kept."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.work = rows, rows.work
        self.labels = [rung.label for rung in rows.ladder.rungs]
        self.found: dict[str, dict[str, dict[str, Figure]]] = defaultdict(lambda: defaultdict(dict))
        if (before := self.work / "canvas.json").is_file():
            for name, of_rows in json.loads(before.read_text())["figures"].items():
                self.found[name].update({row: defaultdict(dict, found) for row, found in of_rows.items()})

    @cached_property
    def figures(self) -> Figures:
        """Compares with training patches that are in no row."""
        descriptor = TextureDescriptor()
        reference = {
            rung.label: np.concatenate(
                [descriptor.describe(images_of(one)) for one in self.rows.read("train", rung, 0)]
            )
            for rung in self.rows.ladder.rungs
        }
        least = compose_jobs("prepare", ["data=reference"])[0].data.min_tissue
        tissue = {rung.label: least.get(rung.magnification, least["default"]) for rung in self.rows.ladder.rungs}
        return Figures(descriptor, reference, tissue, num=NUM)

    def measure(self, row: str, roots: Sequence[Root]) -> None:
        """Measure a row, and write all figures that there are."""
        for of_rows in self.found.values():
            of_rows.pop(row, None)
        for label in self.labels:
            if any(label in root for root in roots):
                for name, figure in self.figures.of(roots, label):
                    self.found[name][row][label] = figure
                for name, figure in self.figures.of_whole(roots, label, self.labels[-1]):
                    self.found[name][row][label] = figure
        for label, pairs in self.rows.round_trips[row].items():
            others = [(found, pairs[place - 1][1]) for place, (found, _) in enumerate(pairs)]
            self.found["round trip"][row][label] = over_roots(_apart, pairs)
            self.found["round trip, another's tokens"][row][label] = over_roots(_apart, others)
        self.work.joinpath("canvas.json").write_text(
            json.dumps({"figures": self.found, "made by": provenance()}, indent=1)
        )
        self.work.joinpath("canvas.md").write_text("\n".join(tables(self.found, self.labels)))


def _apart(pairs: Sequence[Sequence[np.ndarray]]) -> float:
    """Return the mean squared difference of pairs of standardised tokens."""
    return float(np.mean([np.square(found - own).mean() for found, own in pairs]))


def picture(rows: dict[str, Sequence[Root]], path: Path) -> None:
    """Write two drawn roots and a painted slide, from whole to nuclei."""

    def middle(pixels: np.ndarray) -> np.ndarray:
        top, left = ((side - min(side, SHOWN_PX)) // 2 for side in pixels.shape[:2])
        return pixels[top : top + SHOWN_PX, left : left + SHOWN_PX]

    shown = [rows[CANVAS][0], rows[CANVAS][1], rows[REAL][0]]
    labels = ("0.15625x", "0.625x", "1.25x", "5x", "10x", "20x")
    sheet([[middle(root[label][0].pixels) for label in labels] for root in shown], path, side=SHOWN_PX)


if __name__ == "__main__":
    main()
