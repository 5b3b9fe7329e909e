"""What a person looks at: one page with every slide's picture, counts, status and reason."""

import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from data_prep.tissue.geojson import drawn_path
from data_prep.work.picture import focus_picture
from data_prep.work.state import DoneSlide, SlideState
from data_prep.work.store import SlideStore
from zoomldm.data.schema import slide_key
from zoomldm.errors import DataError
from zoomldm.files import remove_temporaries, write_atomically

COLUMNS = ("slide", "patient", "status", "reason", "tissue", "pen", "folds", "focus", "soft", "regions_blurred")
"""Of ``slides.csv`` beside the page."""
MOST_FOLDED = 0.005  # part of a slide's tissue that may be folded without a word
MOST_SOFT = 0.1  # part of a slide's tiles that may be hardly in focus without a word
ORDER = ("failed", "empty", "fine")
"""Of the slides on the page, the worst first."""


def write_page(
    root: Path,
    states: list[SlideState],
    *,
    title: str,
    counts: Mapping[str, Mapping[str, int]],
    dropped: Mapping[str, str],
    notes: list[str],
    split_of: Mapping[str, str],
) -> Path:
    """Write ``qc/index.html``, the pictures it shows, its figures as ``slides.csv``, and the contours of the masks.

    Args:
        counts: samples by split and magnification.
        dropped: why a magnification is not there.
        split_of: train, test or both, by slide.
    """
    folder = root / "qc"
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder)
    for state in states:
        store = SlideStore(root, state.slide)
        beside = {folder / picture_name(state): store.qc_path, drawn_path(folder, state.slide): store.contours_path}
        for path, source in beside.items():
            content = _content_of(source) if isinstance(state, DoneSlide) else None
            if content is not None:
                write_atomically(path, content)
        if isinstance(state, DoneSlide) and state.focus is not None:
            with suppress(DataError):  # damaged work is said where it is needed
                write_atomically(folder / focus_name(state), focus_picture(store.focus()))
    labels = sorted({label for split in counts.values() for label in split}, key=lambda v: -float(v[:-1]))
    page = template("qc.html").render(
        title=title,
        slides=sorted(states, key=lambda state: (ORDER.index(kind_of(state)), state.slide)),
        numbers={kind: sum(kind_of(state) == kind for state in states) for kind in ORDER},
        labels=list(dict.fromkeys([*labels, *dropped])),
        counts=counts,
        dropped=dropped,
        notes=notes,
        split_of=split_of,
    )
    write_atomically(folder / "slides.csv", table_of(states))
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _content_of(path: Path) -> bytes | None:
    """Return a file's bytes, None where it is not there or cannot be read: the page does without a picture."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def kind_of(state: SlideState) -> str:
    """Return failed, empty (done, but without a sample) or fine."""
    if not isinstance(state, DoneSlide):
        return "failed"
    return "fine" if state.num_samples else "empty"


def picture_name(state: SlideState) -> str:
    """Return the name of a slide's picture beside the page."""
    return f"{slide_key(state.slide)}.jpg"


def focus_name(state: SlideState) -> str:
    """Return the name of the map of a slide's focus beside the page."""
    return f"{slide_key(state.slide)}.focus.png"


def table_of(states: list[SlideState]) -> str:
    """Return what is measured of every slide as a CSV; what a slide has no number for is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for state in sorted(states, key=lambda state: state.slide):
        writer.writerow([getattr(state, column, None) for column in COLUMNS])
    return stream.getvalue()


def oddities_of(state: DoneSlide) -> list[str]:
    """Return in words what a person should look at."""
    found = {
        f"{state.unreadable_tiles} unreadable tiles": state.unreadable_tiles,
        f"{state.regions_skipped} regions skipped": state.regions_skipped,
        f"pen on {state.pen:.1%}": state.pen,
        f"folds, perhaps, on {state.folds or 0:.1%} of the tissue": (state.folds or 0) > MOST_FOLDED,
        f"{state.soft or 0:.0%} of the tiles hardly in focus": (state.soft or 0) > MOST_SOFT,
        f"{state.regions_blurred} blurred regions left out": state.regions_blurred,
        damaged_levels_of(state): state.damaged_levels,
        "damaged colour profile": state.icc == "damaged",
        f"reading it again failed, its work of before stays: {state.reread_failed}": state.reread_failed,
        f"scale given, {state.scale.disagreement:.0%} from the file's": state.scale.disagreement > 0.05,
        state.reason: state.reason,
    }
    return [words for words, is_so in found.items() if is_so]


def damaged_levels_of(state: DoneSlide) -> str:
    """Return in words which levels the mask could not be made from."""
    return f"level {' and '.join(map(str, state.damaged_levels))} cannot be decoded, the mask is of a finer one"


def template(name: str) -> Template:
    """Return a page's template, a file beside this one."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    named = (kind_of, picture_name, focus_name, oddities_of)
    environment.globals |= {function.__name__: function for function in named}
    return environment.get_template(name)
