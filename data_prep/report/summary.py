"""What a preparation says when it ends: counts by magnification, notes, and the QC page."""

from collections import Counter
from pathlib import Path
from typing import Any

from data_prep.pack.splits import AREA, NOTHING
from data_prep.preparation import Contents, Preparation
from data_prep.report.qc import write_page
from data_prep.work.state import DoneSlide, FailedSlide, SlideState
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import SPLITS


def print_summary(contents: Contents, states: list[SlideState], manifest: Manifest, elapsed_s: float) -> None:
    """Print what was made, and write the QC page."""
    everything = [*states, *contents.preparation.failed_lines()]
    notes = []
    if contents.split.held_out == AREA:
        notes.append("one patient only: the held-out part is a separate area of each slide, no region lies in both")
    if contents.split.held_out == NOTHING:
        notes.append("split=paper: every patient is in train, nothing is held out")
    for note in notes:
        print(f"note: {note}")
    lines = [_with_split(state, contents) for state in everything]
    page = write_page(
        contents.root, lines, manifest.counts, manifest.dropped, notes, f"{manifest.name}: quality control"
    )
    print(f"{'magnification':>14}  {'train':>10}  {'test':>10}")
    for label in manifest.ladder.labels:
        if label in manifest.dropped:
            print(f"{label:>14}  dropped: {manifest.dropped[label]}")
        else:
            counts = [manifest.counts[split].get(label, 0) for split in SPLITS]
            print(f"{label:>14}  {counts[0]:>10,}  {counts[1]:>10,}")
    print(_last_line(contents.root, everything, manifest, page, elapsed_s))


def write_failure_page(preparation: Preparation, states: list[SlideState]) -> None:
    """Write the QC page of a preparation of which nothing came."""
    lines = [state.to_dict() for state in [*states, *preparation.failed_lines()]]
    title = f"{preparation.pack_settings.name}: nothing packed"
    write_page(preparation.root, lines, {split: {} for split in SPLITS}, {}, [], title)


def _with_split(state: SlideState, contents: Contents) -> dict[str, Any]:
    if not isinstance(state, DoneSlide):
        return state.to_dict()
    split = "both" if contents.split.held_out == AREA else contents.split.of_patient[state.patient]
    return state.to_dict() | {"split": split}


def _last_line(root: Path, states: list[SlideState], manifest: Manifest, page: Path, elapsed_s: float) -> str:
    kinds = Counter(
        "failed" if isinstance(state, FailedSlide) else "ok" if state.num_samples else "empty" for state in states
    )
    num_bytes = sum(column["bytes"] for shard in manifest.shards for column in shard.columns.values())
    return (
        f"{kinds['ok']} slides with samples, {kinds['empty']} without, {kinds['failed']} failed; "
        f"{len(manifest.shards)} shards, {num_bytes / 1e6:,.0f} MB in {root}; look at {page}; {elapsed_s:.1f} s"
    )
