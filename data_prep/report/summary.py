"""What a preparation says when it ends: counts by magnification, notes, and the QC page."""

from collections import Counter
from pathlib import Path

from data_prep.pack.splits import AREA, NOTHING, Split
from data_prep.preparation import Contents, Preparation
from data_prep.report.doubts import notes_about
from data_prep.report.qc import write_page
from data_prep.work.state import DoneSlide, FailedSlide, SlideState
from data_prep.work.store import SlideStore
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.data.schema import SPLITS
from zoomldm.errors import counted


def print_summary(contents: Contents, states: list[SlideState], manifest: Manifest, elapsed_s: float) -> None:
    """Print what was made, and write the QC page."""
    for note in _split_notes(contents):
        print(f"note: {note}")
    page = write_summary_page(contents, states, manifest)
    print(f"{'magnification':>14}  {'train':>10}  {'test':>10}")
    for label in manifest.ladder.labels:
        if label in manifest.dropped:
            print(f"{label:>14}  dropped: {manifest.dropped[label]}")
        else:
            counts = [manifest.counts[split].get(label, 0) for split in SPLITS]
            print(f"{label:>14}  {counts[0]:>10,}  {counts[1]:>10,}")
    everything = [*states, *contents.preparation.failed_lines()]
    print(_last_line(contents.root, everything, manifest, page, elapsed_s))


def write_summary_page(contents: Contents, states: list[SlideState], manifest: Manifest) -> Path:
    """Write the QC page of shards that are whole."""
    return write_page(
        contents.root,
        [*states, *contents.preparation.failed_lines()],
        title=f"{manifest.name}: quality control",
        counts=manifest.counts,
        dropped=manifest.dropped,
        notes=[*notes_about(contents.preparation), *_split_notes(contents)],
        split_of={state.slide: _split_of(state, contents.split) for state in contents.done},
    )


def is_page_older(root: Path, states: list[SlideState]) -> bool:
    """Say whether the QC page is missing, or older than the manifest or what is known of a slide."""
    page = root / "qc" / "index.html"
    if not page.is_file():
        return True
    told = [root / MANIFEST_NAME, *(SlideStore(root, state.slide).state_path for state in states)]
    return page.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in told if path.is_file())


def _split_notes(contents: Contents) -> list[str]:
    notes = []
    if contents.split.held_out == AREA:
        notes.append("one patient only: the held-out part is a separate area of each slide, no region lies in both")
    if contents.split.held_out == NOTHING:
        notes.append("split=paper: every patient is in train, nothing is held out")
    return notes


def write_failure_page(preparation: Preparation, states: list[SlideState]) -> None:
    """Write the QC page of a preparation of which nothing came."""
    write_page(
        preparation.root,
        [*states, *preparation.failed_lines()],
        title=f"{preparation.pack_settings.name}: nothing packed",
        counts={split: {} for split in SPLITS},
        dropped={},
        notes=notes_about(preparation),
        split_of={},
    )


def _split_of(state: DoneSlide, split: Split) -> str:
    return "both" if split.held_out == AREA else split.of_patient[state.patient]


def _last_line(root: Path, states: list[SlideState], manifest: Manifest, page: Path, elapsed_s: float) -> str:
    kinds = Counter(
        "failed" if isinstance(state, FailedSlide) else "ok" if state.num_samples else "empty" for state in states
    )
    num_bytes = sum(column["bytes"] for shard in manifest.shards for column in shard.columns.values())
    return (
        f"{counted(kinds['ok'], 'slide')} with samples, {kinds['empty']} without, {kinds['failed']} failed; "
        f"{counted(len(manifest.shards), 'shard')}, {num_bytes / 1e6:,.0f} MB in {root}; look at {page}; "
        f"{elapsed_s:.1f} s"
    )
