"""One shard from the work of its slides: image, grid, meta and lossless copies as parallel tars."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.pack.jobs import PackedSlide, ShardJob
from data_prep.pack.slide_work import SlideWork
from data_prep.work.store import SlideStore
from zoomldm.data.manifest import ShardInfo
from zoomldm.data.schema import IMAGE_EXTENSIONS, SampleMeta, make_key
from zoomldm.data.shards import column_path, open_column
from zoomldm.errors import DataError
from zoomldm.files import raise_if_disk_fault, sha256_of, write_json
from zoomldm.stored import read_json, stored_as

Fields = dict[str, bytes]
"""Of a sample in one column, by name."""
BYTES_AT_ONCE = 256 << 20


def write_shard(job: ShardJob, damaged: Collection[str] = ()) -> dict[str, Any]:
    """Write every column of a shard and return its line in the manifest; columns that are there are left as they are.

    damaged: columns that are written again although they are there.

    Raises:
        DataError: a lost column comes out with other bytes than it had.
        UserError: a full disk.
    """
    old = read_record(job)
    lost = {*lost_columns(job, old), *damaged} if old else set()
    if old and not lost:
        return old | {"path": job.path}
    columns = ["image", "grid", "meta", *(["reference"] if job.has_references else [])]
    columns = [column for column in columns if not old or column in lost]
    try:
        written = _write_columns(job, columns, old["columns"] if old else {})
    except OSError as error:
        raise_if_disk_fault(error, job.base)
        raise
    line = {
        "split": job.split,
        "magnification": job.rung.magnification,
        "path": job.path,
        "num_samples": len(job.number),
        "columns": written,
    }
    write_json(job.record_path, line)
    return line


def _write_columns(job: ShardJob, columns: list[str], old: dict[str, Any]) -> dict[str, Any]:
    """Write some columns beside each other; return what the manifest says of these and of ``old`` ones."""
    num_samples = Counter[str]()
    with ExitStack() as stack:
        write = {column: stack.enter_context(open_column(column_path(job.base, column))) for column in columns[::-1]}
        for key, fields_of in _samples(job, columns):
            for column, fields in fields_of.items():
                write[column](key, fields)
                num_samples[column] += 1
    written = dict(old)
    for column in columns:
        tar = column_path(job.base, column)
        written[column] = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
        if column == "reference":
            written[column]["num_samples"] = num_samples[column]
        if column in old and old[column]["sha256"] != written[column]["sha256"]:
            raise DataError(
                f"{tar}: was lost and comes out of the slides' work with other bytes; the work has changed since. "
                "repack=true makes all shards of these slides anew"
            )
    return written


def read_record(job: ShardJob) -> dict[str, Any] | None:
    """Return the line that a finished shard left, None without one, or with one that is damaged."""
    try:
        line = stored_as(ShardInfo, read_json(job.record_path))
    except (OSError, ValueError):
        return None
    is_ours = (line.split, line.magnification, line.num_samples) == (job.split, job.rung.magnification, len(job.number))
    return asdict(line) if is_ours else None


def lost_columns(job: ShardJob, line: dict[str, Any]) -> list[str]:
    """Return the columns of a finished shard whose tar is missing or of another size."""
    return [column for column, facts in line["columns"].items() if not is_there(column_path(job.base, column), facts)]


def is_there(tar: Path, facts: dict[str, Any]) -> bool:
    """Say whether a tar is there, as large as the manifest says."""
    try:
        return tar.stat().st_size == facts["bytes"]
    except OSError:
        return False


def grids_of(job: ShardJob) -> Iterator[tuple[str, Fields]]:
    """Yield key and grid of a shard's samples in order."""
    for key, columns in _samples(job, {"grid"}):
        yield key, columns["grid"]


def _samples(job: ShardJob, columns: Collection[str]) -> Iterator[tuple[str, dict[str, Fields]]]:
    """Yield a shard's samples in order: key, and the fields of each column that the sample has.

    Slides are opened one after the other, each once for as many samples as are held in memory (``BYTES_AT_ONCE``).
    """
    at_once = max(1, BYTES_AT_ONCE // job.bytes_a_sample)
    for start in range(0, len(job.number), at_once):
        slide_of, number = (of_all[start : start + at_once] for of_all in (job.slide_of, job.number))
        found: dict[int, tuple[str, dict[str, Fields]]] = {}
        for place in np.unique(slide_of).tolist():
            slide = job.slides[place]
            with SlideWork(SlideStore(job.root, slide.name, waiting=job.waiting), job.rung.index) as work:
                for position in np.flatnonzero(slide_of == place).tolist():
                    found[position] = _sample(job, slide, work, int(number[position]), columns)
        for position in range(len(number)):
            yield found.pop(position)


def _sample(
    job: ShardJob, slide: PackedSlide, work: SlideWork, number: int, columns: Collection[str]
) -> tuple[str, dict[str, Fields]]:
    samples, fields = work.samples, {}
    key = make_key(slide.name, job.rung.grid_side, *samples.corner_px0[number].tolist())
    offset, size, reference_offset, reference_size = samples.spans[number].tolist()
    if "image" in columns:
        fields["image"] = {IMAGE_EXTENSIONS[job.image_format]: work.image(offset, size)}
    if "grid" in columns:
        fields["grid"] = work.grid(number, job.rung.grid_side, job.statistics)
    if "meta" in columns:
        fields["meta"] = {"json": _meta(job, slide, work, number, key).encode()}
    if "reference" in columns and reference_offset >= 0:
        fields["reference"] = {"png": work.image(reference_offset, reference_size)}
    return key, fields


def _meta(job: ShardJob, slide: PackedSlide, work: SlideWork, number: int, key: str) -> SampleMeta:
    rung = job.rung
    x_px0, y_px0 = work.samples.corner_px0[number].tolist()
    return SampleMeta(
        key=key,
        magnification=rung.magnification,
        slide=slide.name,
        patient=slide.patient,
        split=job.split,
        x_px0=x_px0,
        y_px0=y_px0,
        region_px0=round(rung.region_px * slide.pitch_px0),
        mpp_nominal=rung.mpp,
        mpp_true=rung.mpp * slide.mpp_ratio,
        tissue=round(float(work.samples.tissue[number]), 6),
        labels=slide.labels,
    )
