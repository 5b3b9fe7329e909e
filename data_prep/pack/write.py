"""One shard from the work of its slides: image, grid, meta and lossless copies as parallel tars."""

import json
from collections.abc import Collection, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fold.quadtree import crop_cells
from data_prep.pack.jobs import PackedSlide, ShardJob
from data_prep.work.store import RungSamples, SlideStore
from zoomldm.data.schema import IMAGE_EXTENSIONS, SampleMeta, encode_grid, make_key
from zoomldm.data.shards import column_path, write_column
from zoomldm.encoder.stats import standardise
from zoomldm.errors import DataError
from zoomldm.files import raise_if_disk_fault, sha256_of, write_json

Fields = Iterator[tuple[str, dict[str, bytes]]]
"""Samples of a column: key, and bytes by field."""
SLIDES_IN_MEMORY = 64


class SlideWork:
    """A slide's work as packing reads it: maps and rows stay in memory, images are read one by one."""

    def __init__(self, store: SlideStore) -> None:
        self.store = store
        self.rows = store.rows()
        self._samples: dict[int, RungSamples] = {}
        self._standardised: tuple[dict[str, Any], np.ndarray] | None = None

    @cached_property
    def cells(self) -> np.ndarray:
        return self.store.cells()

    def samples(self, rung: int) -> RungSamples:
        if rung not in self._samples:
            self._samples[rung] = self.store.samples(rung)
        return self._samples[rung]

    def grid(self, y: int, x: int, side: int, statistics: dict[str, Any] | None) -> dict[str, bytes]:
        """Return a region's grid: rows number cells from 1 on in the order of their tiles, row 0 is glass."""
        crop = crop_cells(self.cells, y, x, side)
        if crop.size <= 64:  # sorting a few is faster than marking all rows of a slide
            used = np.unique(np.append(crop, 0))
            return encode_grid(np.searchsorted(used, crop), self._final_rows(statistics)[used])
        is_used = np.zeros(len(self.rows), bool)
        is_used[0] = True
        is_used[crop] = True
        row_of = np.cumsum(is_used, dtype=np.int32) - 1
        return encode_grid(row_of[crop], self._final_rows(statistics)[is_used])

    def _final_rows(self, statistics: dict[str, Any] | None) -> np.ndarray:
        """Return all rows as they go into grids, float16; the standardised ones are kept in memory."""
        if statistics is None:
            return self.rows
        if self._standardised is None or self._standardised[0] != statistics:
            self._standardised = statistics, final_rows(self.rows, statistics)
        return self._standardised[1]


def final_rows(rows: np.ndarray, statistics: dict[str, Any] | None) -> np.ndarray:
    """Return rows (n, D) as they go into grids, float16: standardised where they are made to be."""
    if statistics is not None:
        rows = standardise(np.asarray(rows), statistics["mean"], statistics["std"])
    return rows.astype(np.float16)


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
    columns = {"image": _images(job), "grid": grids_of(job), "meta": _metas(job)}
    if job.has_references:
        columns["reference"] = _references(job)
    written = dict(old["columns"]) if old else {}
    try:
        for column, samples in columns.items():
            if not old or column in lost:
                written[column] = _write_column(job, column, samples, written.get(column))
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


def _write_column(job: ShardJob, column: str, samples: Fields, old: dict[str, Any] | None) -> dict[str, Any]:
    tar = column_path(job.base, column)
    num_samples = write_column(tar, samples)
    facts = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
    if column == "reference":
        facts["num_samples"] = num_samples
    if old and old["sha256"] != facts["sha256"]:
        raise DataError(
            f"{tar}: was lost and comes out of the slides' work with other bytes; the work has changed since. "
            "repack=true makes all shards of these slides anew"
        )
    return facts


def read_record(job: ShardJob) -> dict[str, Any] | None:
    """Return the line that a finished shard left, None without one."""
    try:
        return json.loads(job.record_path.read_bytes())
    except (OSError, ValueError):
        return None


def lost_columns(job: ShardJob, line: dict[str, Any]) -> list[str]:
    """Return the columns of a finished shard whose tar is missing or of another size."""
    return [column for column, facts in line["columns"].items() if not is_there(column_path(job.base, column), facts)]


def is_there(tar: Path, facts: dict[str, Any]) -> bool:
    """Say whether a tar is there, as large as the manifest says."""
    try:
        return tar.stat().st_size == facts["bytes"]
    except OSError:
        return False


def grids_of(job: ShardJob) -> Fields:
    """Yield the grids of a shard in order."""
    for _, work, number, key in _samples(job):
        y, x = work.samples(job.rung.index).corner[number].tolist()
        yield key, work.grid(y, x, job.rung.grid_side, job.statistics)


def _images(job: ShardJob) -> Fields:
    extension = IMAGE_EXTENSIONS[job.image_format]
    for _, work, number, key in _samples(job):
        offset, size = work.samples(job.rung.index).spans[number, :2].tolist()
        yield key, {extension: work.store.image(offset, size)}


def _references(job: ShardJob) -> Fields:
    """Yield the lossless copies of the samples that have one."""
    for _, work, number, key in _samples(job):
        offset, size = work.samples(job.rung.index).spans[number, 2:].tolist()
        if offset >= 0:
            yield key, {"png": work.store.image(offset, size)}


def _metas(job: ShardJob) -> Fields:
    rung = job.rung
    for slide, work, number, key in _samples(job):
        samples = work.samples(rung.index)
        x_px0, y_px0 = samples.corner_px0[number].tolist()
        meta = SampleMeta(
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
            tissue=round(float(samples.tissue[number]), 6),
            labels=slide.labels,
        )
        yield key, {"json": meta.encode()}


def _samples(job: ShardJob) -> Iterator[tuple[PackedSlide, SlideWork, int, str]]:
    """Yield slide, its work, number among its samples, and key of each sample of a shard."""
    works: dict[int, SlideWork] = {}
    for place, number in zip(job.slide_of.tolist(), job.number.tolist()):
        slide = job.slides[place]
        if place not in works:
            works[place] = _open_work(SlideStore(job.root, slide.name, waiting=job.waiting))
        work = works[place]
        corner_px0 = work.samples(job.rung.index).corner_px0[number].tolist()
        yield slide, work, number, make_key(slide.name, job.rung.grid_side, *corner_px0)


def _open_work(store: SlideStore) -> SlideWork:
    """Return a slide's work, kept open from shard to shard as long as it is the same file."""
    stat = store.rows_path.stat()
    return _cached_work(store.root, store.slide, store.waiting, (stat.st_ino, stat.st_mtime_ns))


@lru_cache(maxsize=SLIDES_IN_MEMORY)
def _cached_work(root: Path, slide: str, waiting: bool, stamp: tuple[int, int]) -> SlideWork:
    return SlideWork(SlideStore(root, slide, waiting=waiting))
