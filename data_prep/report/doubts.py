"""What looks wrong about slides before one is read, in words: a run says it, and so does ``plan=true``."""

import re
from collections.abc import Sequence
from pathlib import Path

from data_prep.pack.agreement import listed
from data_prep.pack.splits import NOTHING, Split
from data_prep.preparation import Preparation
from data_prep.slides.table import SlideSpec, is_frozen
from data_prep.tissue.geojson import drawn_path
from zoomldm.errors import counted, near_match

JSON = re.compile(r"\.(geo)?json.*$", re.IGNORECASE)


def doubts_about(preparation: Preparation, named: Sequence[SlideSpec], split: Split) -> list[str]:
    """Return what a person should know beforehand; ``named`` are the slides of this command."""
    notes = [f"note: {words}" for words in notes_about(preparation)]
    return [*_frozen(named), *_patients(preparation, named, split), *notes]


def notes_about(preparation: Preparation) -> list[str]:
    """Return what the QC page says too: what is left out, and drawings that are of no slide."""
    told = {
        "of the slide table left out by its own column": (preparation.excluded, "line"),
        "left out (slide.frozen=false)": (preparation.frozen, "frozen section"),
        f"in data.tissue.regions={preparation.slide_settings.tissue.regions} of no slide of this command, and unused": (
            unused_drawings(preparation),
            "drawing",
        ),
    }
    return [f"{counted(len(names), noun)} {words}: {listed(names)}" for words, (names, noun) in told.items() if names]


def unused_drawings(preparation: Preparation) -> list[str]:
    """Return the files in the folder of drawn regions that are called after no slide, and which may be meant."""
    folder = preparation.slide_settings.tissue.regions
    if not folder:
        return []
    left_out = [*preparation.frozen, *(Path(path).stem for path in preparation.excluded)]
    slides = [*(spec.name for spec in preparation.specs), *(fault.name for fault in preparation.faults), *left_out]
    known = {drawn_path(folder, slide).name: slide for slide in slides}
    there = {path.name for path in Path(folder).iterdir() if "json" in path.name.lower() and path.is_file()}
    without = sorted(slide for name, slide in known.items() if name not in there)
    hints = {name: near_match(JSON.sub("", name), without) for name in sorted(there - known.keys())}
    return [f"{name} ({hint.strip()})" if hint else name for name, hint in hints.items()]


def _frozen(named: Sequence[SlideSpec]) -> list[str]:
    frozen = [spec.name for spec in named if is_frozen(spec.name)]
    said = f"warning: {counted(len(frozen), 'frozen section')} by barcode, which slide.frozen=false leaves out"
    return [f"{said} (diagnostic slides, -DX, are usually meant): {listed(frozen)}"] if frozen else []


def _patients(preparation: Preparation, named: Sequence[SlideSpec], split: Split) -> list[str]:
    patients = {spec.patient for spec in preparation.specs}
    by_name = len(patients) == len(named) > 1 and all(spec.patient == spec.name for spec in named)
    if not by_name or split.held_out == NOTHING or preparation.patients_known:
        return []
    said = f"note: {len(named)} slides = {len(named)} patients, by their names: two slides of one patient would lie in"
    return [f"{said} train and in test; give a CSV with a patient column"]
