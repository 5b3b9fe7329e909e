"""Say what the demo's patches show, as its painter knows it: tables for ``label=tissue`` and ``label=vector``.

    python data_prep/demo/labels.py data=data/demo slides=data/demo_slides

writes into the data set's folder, beside its shards, which stay as they are:

    tissue.csv        a line for each patch: key, tissue (empty where none covers half of it), share of the commonest
    composition.csv   a line for each slide: what its patient's tissue is composed of (patient.py)

Everything is a function of the slides' seed: the same bytes whenever it is made.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

if __package__ in (None, ""):  # run as a script: the repository's root is not on the path
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[2])]

from data_prep.demo.anatomy import Tissue
from data_prep.demo.blueprint import draw_blueprint
from data_prep.demo.patient import draw_patient
from data_prep.demo.slides import DRAWING_VERSION, RECORD, slide_name
from zoomldm.cli import key_values, user_errors
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.data.schema import SPLITS, SampleMeta
from zoomldm.errors import DataError, UserError
from zoomldm.files import progress, write_atomically
from zoomldm.stored import read_json

TYPES = {
    "fat": (Tissue.FAT,),
    "stroma": (Tissue.STROMA, Tissue.DENSE, Tissue.MUSCLE),
    "gland": (Tissue.EPITHELIUM, Tissue.LUMEN, Tissue.SECRETION, Tissue.LOOSE),
    "tumour": (Tissue.TUMOUR, Tissue.NECROSIS),
}
"""What a patch may be called, and the painter's tissues that count as it; glass and blood count as none."""
LEAST_SHARE = 0.5
CELL_PX = 32
COMPOSITION = ("fat", "tumour", "lobules_per_mm2", "ducts_per_mm2", "grade", "lymphoid", "collagen")


class Areas:
    """How much of each type lies in any region of one slide.

    Args:
        labels: uint8 (side, side) of Tissue, one a pixel of level 0.
    """

    def __init__(self, labels: np.ndarray) -> None:
        side = len(labels) // CELL_PX
        self.sums = np.zeros((len(TYPES), side + 1, side + 1), np.int64)
        for sums, tissues in zip(self.sums, TYPES.values()):
            is_type = np.isin(labels, tissues).reshape(side, CELL_PX, side, CELL_PX)
            sums[1:, 1:] = is_type.sum((1, 3)).cumsum(0).cumsum(1)

    def shares(self, meta: SampleMeta) -> np.ndarray:
        """Return which part of a patch each type covers, float (types,).

        Raises:
            DataError: a patch that is not made of whole cells.
        """
        if any(value % CELL_PX for value in (meta.x_px0, meta.y_px0, meta.region_px0)):
            raise DataError(f"{meta.key}: its corner or side is no multiple of {CELL_PX} px, as the demo's are")
        limit = self.sums.shape[1] - 1
        left, top = (np.clip(at // CELL_PX, 0, limit) for at in (meta.x_px0, meta.y_px0))
        right, bottom = (np.clip((at + meta.region_px0) // CELL_PX, 0, limit) for at in (meta.x_px0, meta.y_px0))
        sums = self.sums
        within = sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]
        return within / meta.region_px0**2


def write_labels(root: Path, folder: Path) -> dict[str, Counter[str]]:
    """Write both tables into a data set's folder; return how many patches of each magnification have which label.

    Args:
        folder: of the demo's slides, which says how they were drawn.

    Raises:
        UserError: no such data set, or slides that this version did not draw.
    """
    drawing = _drawing(folder)
    numbers = {slide_name(number): number for number in range(1, len(drawing["patients"]) + 1)}
    by_slide: dict[str, list[SampleMeta]] = {}
    for meta in _metas(Manifest.load(root)):
        by_slide.setdefault(meta.slide, []).append(meta)
    if unknown := sorted(by_slide.keys() - numbers.keys()):
        raise DataError(f"{root}: slide {unknown[0]} is none of those in {folder}; name the folder that it is of")
    rows, found = [], {}
    for slide in progress(sorted(by_slide), total=len(by_slide), label="labels", unit="slide"):
        patient = draw_patient(drawing["seed"], numbers[slide])
        areas = Areas(draw_blueprint(patient, drawing["side_px"]).labels)
        for meta in by_slide[slide]:
            tissue, share = named(areas.shares(meta))
            rows.append((meta.key, tissue, f"{share:.3f}"))
            found.setdefault(f"{meta.magnification:g}x", Counter())[tissue or "none"] += 1
    _write(root / "tissue.csv", ("key", "tissue", "share"), sorted(rows))
    patients = {slide: vars(draw_patient(drawing["seed"], number)) for slide, number in numbers.items()}
    composed = [(slide, *(f"{told[name]:.4f}" for name in COMPOSITION)) for slide, told in patients.items()]
    _write(root / "composition.csv", ("slide", *COMPOSITION), composed)
    return found


def named(shares: np.ndarray) -> tuple[str, float]:
    """Return what a patch is called by the parts of it that each type covers, and the largest part."""
    best = int(shares.argmax())
    return (list(TYPES)[best] if shares[best] >= LEAST_SHARE else ""), float(shares[best])


def _drawing(folder: Path) -> Mapping:
    try:
        record = read_json(folder / RECORD)
        drawing = {"patients": record["patients"], **record["drawing"]}
        version = drawing["drawing_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / RECORD}: cannot be read ({error}); slides= names the demo's slides") from error
    if version != DRAWING_VERSION:
        raise DataError(f"{folder}: drawn by version {version} of the painter, not by this one")
    return drawing


def _metas(manifest: Manifest) -> Iterator[SampleMeta]:
    """Yield what is said of every patch of a data set."""
    for split in SPLITS:
        source = SampleSource(manifest, split=split, columns=("meta",))
        for rung, count in enumerate(source.counts.tolist()):
            if count:
                yield from source.read(np.full(count, rung), np.arange(count)).meta


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    write_atomically(path, text.getvalue())


def main(argv: Sequence[str]) -> None:
    """Read key=value words and make the tables."""
    values = {key: Path(value) for key, value in key_values(argv, ("data", "slides")).items()}
    if lacking := [key for key in ("data", "slides") if key not in values]:
        raise UserError(f"{lacking[0]}: missing; for example data=data/demo slides=data/demo_slides")
    for magnification, counts in write_labels(values["data"], values["slides"]).items():
        print(magnification, ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"tissue.csv and composition.csv in {values['data']}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
