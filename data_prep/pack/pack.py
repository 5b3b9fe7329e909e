"""Per-slide work becomes shards: balanced, by split and magnification, in a seeded order, with a manifest at the end.

A shard that was finished under the same plan (data_prep/shard_plan.py) is kept: a killed pack goes on where it stopped,
and later slides only add shards. The manifest is written last, and taken away before any shard is, so that it never
speaks of shards that are not there.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from data_prep.execution.local import Died, Executor
from data_prep.fold.area import Area
from data_prep.fold.quadtree import crop_cells
from data_prep.pack.shard_plan import ShardPlan, inputs_hash, planned, read_plan
from data_prep.pack.splits import AREA, NOTHING, Split
from data_prep.settings import PrepareSettings
from data_prep.slides.table import SlideSpec
from data_prep.work.prepare_slide import IMAGES_NAME, slide_folder
from zoomldm import __version__
from zoomldm.data.manifest import MANIFEST_NAME, EncoderInfo, Manifest, ShardInfo
from zoomldm.data.schema import IMAGE_EXTENSIONS, TEST, TRAIN, SampleMeta, encode_grid, make_key
from zoomldm.data.shards import column_path, write_column
from zoomldm.encoder.stats import standardise
from zoomldm.errors import DataError, UserError
from zoomldm.files import progress, raise_if_disk_fault, sha256_of, write_json
from zoomldm.ladder import Rung


@dataclass(frozen=True, kw_only=True)
class PackedSlide:
    """What a sample needs to know of its slide."""

    name: str
    patient: str
    labels: dict[str, Any]
    mpp_ratio: float  # true mpp of the base by the nominal one
    pitch_px0: float


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard to write: which sample of which slide, in order; standardised with ``statistics`` where given."""

    root: Path
    path: str
    split: str
    rung: Rung
    settings: PrepareSettings
    slides: tuple[PackedSlide, ...]
    slide_of: np.ndarray
    position: np.ndarray
    statistics: dict[str, Any] | None


class SlideWork:
    """The work of one slide, for packing; holds no file open, since a shard draws on hundreds of slides."""

    def __init__(self, root: Path, slide: str) -> None:
        self.folder = slide_folder(root, slide)
        self._arrays: dict[str, np.ndarray] = {}
        self._standardised: tuple[dict[str, Any], np.ndarray] | None = None
        with self._said_if_damaged():
            self.rows = np.load(self.folder / "rows.npy", mmap_mode="r")

    @contextmanager
    def _said_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(
                f"{self.folder}: the slide's work is damaged ({error}); delete the folder and prepare again"
            ) from error

    def array(self, name: str) -> np.ndarray:
        """Return an array of ``samples.npz``: ``cells``, or ``<rung>.place``, ``.px0``, ``.tissue``, ``.spans``."""
        if name not in self._arrays:
            with self._said_if_damaged(), np.load(self.folder / "samples.npz") as samples:
                self._arrays[name] = samples[name]
        return self._arrays[name]

    def image(self, offset: int, size: int) -> bytes:
        with self._said_if_damaged(), open(self.folder / IMAGES_NAME, "rb", buffering=0) as stream:
            stream.seek(offset)
            content = stream.read(size)
            if len(content) != size:
                raise ValueError(f"{IMAGES_NAME} is cut short")
            return content

    def grid(self, y: int, x: int, side: int, statistics: dict[str, Any] | None) -> dict[str, bytes]:
        """Return a region's grid: rows number cells from 1 on in the order of their tiles, row 0 is glass."""
        crop = crop_cells(self.array("cells"), y, x, side)
        if crop.size <= 64:
            used = np.unique(np.append(crop, 0))
            return encode_grid(np.searchsorted(used, crop), self._final_rows(statistics)[used])
        is_used = np.zeros(len(self.rows), bool)
        is_used[0] = True
        is_used[crop] = True
        number = np.cumsum(is_used, dtype=np.int32) - 1
        return encode_grid(number[crop], self._final_rows(statistics)[is_used])

    def _final_rows(self, statistics: dict[str, Any] | None) -> np.ndarray:
        """Return all rows as they go into grids, float16; the standardised ones are kept in memory."""
        if statistics is None:
            return self.rows
        if self._standardised is None or self._standardised[0] != statistics:
            rows = standardise(np.asarray(self.rows), statistics["mean"], statistics["std"])
            self._standardised = statistics, rows.astype(np.float16)
        return self._standardised[1]


def _open_work(root: Path, slide: str) -> SlideWork:
    """Return a slide's work, kept open from shard to shard as long as it is the same file."""
    stat = (slide_folder(root, slide) / "rows.npy").stat()
    return _cached_work(root, slide, (stat.st_ino, stat.st_mtime_ns))


@lru_cache(maxsize=64)
def _cached_work(root: Path, slide: str, stamp: tuple[int, int]) -> SlideWork:
    return SlideWork(root, slide)


def split_of_samples(state: dict[str, Any], place: np.ndarray, side: int, split: Split) -> np.ndarray:
    """Return each region's split, "" for those across the cut of a held-out area; places are (n, 2) y, x in tiles."""
    if split.held_out != AREA:
        return np.full(len(place), split.of_patient[state["patient"]])
    area = Area(**state["area"])
    return np.array([area.split_of(int(y), int(x), side) or "" for y, x in place], dtype="U5").reshape(len(place))


def one_encoder(root: Path, states: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the slides' encoder says of itself.

    Raises:
        DataError: no slide is done, or they were encoded with different weights.
    """
    encoders = {json.dumps(state["encoder"], sort_keys=True): state["slide"] for state in states}
    if not encoders:
        raise DataError(f"{root}: no slide could be prepared; see qc/index.html")
    if len(encoders) > 1:
        named = "; ".join(f"{slide}: {encoder}" for encoder, slide in encoders.items())
        raise DataError(f"{root}: its slides were encoded with different weights ({named}); choose another data.root")
    return json.loads(next(iter(encoders)))


def train_statistics(root: Path, states: list[dict[str, Any]], split: Split) -> dict[str, Any]:
    """Return mean and standard deviation of every channel over the tiles of the training part."""
    count, total, squares = 0, 0.0, 0.0
    for state in states:
        if split.of_patient[state["patient"]] != TRAIN:
            continue
        work = SlideWork(root, state["slide"])
        cells = work.array("cells")
        if split.held_out == AREA:
            area = Area(**state["area"])
            cells = cells[: area.cut] if area.axis == 0 else cells[:, : area.cut]
        rows = np.asarray(work.rows[cells[cells > 0]], np.float64)
        count += len(rows)
        total = total + rows.sum(0)
        squares = squares + (rows**2).sum(0)
    if not count:
        raise DataError(f"{root}: no tissue tile in the training part; see qc/index.html for the mask of every slide")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
    return {"mean": mean.tolist(), "std": np.maximum(std, 1e-4).tolist(), "num_tiles": int(count)}


def gather(
    root: Path, states: list[dict[str, Any]], split: Split, settings: PrepareSettings
) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """Return for each (split, rung) the slide and the position of every sample, slides by name."""
    found: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, state in enumerate(states):
        work = SlideWork(root, state["slide"])
        for rung in settings.ladder.rungs:
            place = work.array(f"{rung.index}.place")
            splits = split_of_samples(state, place, rung.grid_side, split)
            for name in (TRAIN, TEST):
                positions = np.flatnonzero(splits == name)
                if len(positions):
                    found.setdefault((name, rung.index), []).append((np.full(len(positions), number), positions))
    return {
        where: tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[misc]
        for where, parts in found.items()
    }


def drop_small(counts: dict[str, dict[str, int]], settings: PrepareSettings, split: Split) -> dict[str, str]:
    """Return the magnifications with too few samples in a split, each with the reason."""
    dropped = {}
    least = settings.min_samples | ({TEST: 0} if split.held_out == NOTHING else {})
    for rung in settings.ladder.rungs:
        have = {name: counts[name].get(rung.label, 0) for name in (TRAIN, TEST)}
        if any(have[name] < least[name] for name in have):
            dropped[rung.label] = (
                f"too little tissue for regions of {rung.region_px} px: {have[TRAIN]} training and {have[TEST]} test "
                f"samples, {least[TRAIN]} and {least[TEST]} wanted (data.min_samples)"
            )
    return dropped


def make_jobs(
    root: Path,
    states: list[dict[str, Any]],
    specs: dict[str, SlideSpec],
    split: Split,
    settings: PrepareSettings,
    statistics: dict[str, Any] | None,
    batches: list[list[str]],
) -> tuple[list[ShardJob], dict[str, dict[str, int]], dict[str, str]]:
    """Return the shards to write, the counts by split and magnification, and the magnifications left out.

    batches: slides by name; those of a batch are mixed, and no shard holds slides of two.
    """
    gathered = gather(root, states, split, settings)
    packed = [
        PackedSlide(
            name=state["slide"],
            patient=state["patient"],
            labels=specs[state["slide"]].labels,
            mpp_ratio=state["scale"]["mpp_true"] / settings.ladder.base_mpp,
            pitch_px0=state["scale"]["pitch_px0"],
        )
        for state in states
    ]
    counts = {
        name: {rung.label: len(gathered.get((name, rung.index), ((),))[0]) for rung in settings.ladder.rungs}
        for name in (TRAIN, TEST)
    }
    dropped = drop_small(counts, settings, split)
    batch_of = {name: number for number, batch in enumerate(batches) for name in batch}
    batch_of_state = np.array([batch_of[state["slide"]] for state in states])
    jobs = []
    for name in (TRAIN, TEST):
        for rung in settings.ladder.rungs:
            if rung.label in dropped or (name, rung.index) not in gathered:
                continue
            slide_of, position = gathered[name, rung.index]
            pieces = []
            for batch in range(len(batches)):
                members = np.flatnonzero(batch_of_state[slide_of] == batch)
                seed = [settings.seed, rung.index, int(name == TEST), *([batch] if batch else [])]
                order = members[np.random.default_rng(seed).permutation(len(members))]
                if len(order):
                    pieces += np.array_split(order, -(-len(order) // settings.shard_samples))
            for number, piece in enumerate(pieces):
                used, local = np.unique(slide_of[piece], return_inverse=True)
                jobs.append(
                    ShardJob(
                        root=root,
                        path=f"shards/{name}/{rung.label}/{number:05d}",
                        split=name,
                        rung=rung,
                        settings=settings,
                        slides=tuple(packed[i] for i in used),
                        slide_of=local,
                        position=position[piece],
                        statistics=statistics,
                    )
                )
    counts = {name: {k: v for k, v in c.items() if k not in dropped and v} for name, c in counts.items()}
    return jobs, counts, dropped


def record_of(root: Path, job: ShardJob) -> Path:
    """Return the file that says that a shard is finished: its line in the manifest."""
    return root / f"{job.path}.json"


def write_shard(job: ShardJob) -> dict[str, Any]:
    """Write every column of a shard and return its line in the manifest; a finished one is left as it is."""
    base, record = job.root / job.path, record_of(job.root, job)
    if record.is_file():
        return json.loads(record.read_bytes())
    try:
        columns = {
            "image": _images(job, 0, IMAGE_EXTENSIONS[job.settings.image_format]),
            "grid": grids_of(job),
            "meta": _metas(job),
        }
        if job.settings.reference.get(job.rung.label):
            columns["reference"] = _images(job, 2, "png")
        written = {}
        for column, samples in columns.items():
            tar = column_path(base, column)
            count = write_column(tar, samples)
            written[column] = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
            if column == "reference":
                written[column]["num_samples"] = count
    except OSError as error:
        raise_if_disk_fault(error, base)
        raise
    line = {
        "split": job.split,
        "magnification": job.rung.magnification,
        "path": job.path,
        "num_samples": len(job.position),
        "columns": written,
    }
    write_json(record, line)
    return line


def _places(job: ShardJob) -> Iterator[tuple[PackedSlide, SlideWork, int, str]]:
    k = job.rung.index
    works: dict[int, SlideWork] = {}
    for number, position in zip(job.slide_of.tolist(), job.position.tolist()):
        slide = job.slides[number]
        if number not in works:
            works[number] = _open_work(job.root, slide.name)
        work = works[number]
        yield (
            slide,
            work,
            position,
            make_key(slide.name, job.rung.grid_side, *work.array(f"{k}.px0")[position].tolist()),
        )


def _images(job: ShardJob, first: int, extension: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the images (``first`` 0) or the lossless copies of those that have one (``first`` 2)."""
    for _, work, position, key in _places(job):
        offset, size = work.array(f"{job.rung.index}.spans")[position, first : first + 2].tolist()
        if offset >= 0:
            yield key, {extension: work.image(offset, size)}


def grids_of(job: ShardJob) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the grids of a shard in order."""
    for _, work, position, key in _places(job):
        y, x = work.array(f"{job.rung.index}.place")[position].tolist()
        yield key, work.grid(y, x, job.rung.grid_side, job.statistics)


def _metas(job: ShardJob) -> Iterator[tuple[str, dict[str, bytes]]]:
    rung = job.rung
    for slide, work, position, key in _places(job):
        x_px0, y_px0 = work.array(f"{rung.index}.px0")[position].tolist()
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
            tissue=round(float(work.array(f"{rung.index}.tissue")[position]), 6),
            labels=slide.labels,
        )
        yield key, {"json": meta.encode()}


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What is to be packed: nothing is written or taken away before `pack`.

    Attributes:
        is_new: the shards that are there must go.
        done: the states of the slides that are packed, by name.
    """

    plan: ShardPlan
    is_new: bool
    encoder: dict[str, Any]
    done: list[dict[str, Any]]
    jobs: list[ShardJob]
    counts: dict[str, dict[str, int]]
    dropped: dict[str, str]

    def slides_to_write(self, root: Path) -> set[str]:
        """Return the slides whose images go into shards that are not there yet."""
        jobs = self.jobs if self.is_new else [job for job in self.jobs if not record_of(root, job).is_file()]
        return {slide.name for job in jobs for slide in job.slides}


def plan_packing(
    root: Path, done: list[dict[str, Any]], specs: dict[str, SlideSpec], split: Split, settings: PrepareSettings
) -> Packing:
    """Return what packing these slides would do.

    Raises:
        DataError: no magnification has enough samples, or the slides' work is damaged.
    """
    done = sorted(done, key=lambda s: s["slide"])
    plan, is_new = planned(read_plan(root), done, specs, split, settings)
    encoder = one_encoder(root, done)
    if encoder["name"] == "stats":
        encoder["statistics"] = plan.statistics or train_statistics(root, done, split)
    plan = replace(plan, statistics=encoder["statistics"], inputs_sha256=None)
    jobs, counts, dropped = make_jobs(root, done, specs, split, settings, plan.statistics, plan.batches)
    if not jobs:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in dropped.items()) or "no slide could be read"
        raise DataError(f"{root}: no magnification has enough samples; {reasons}. See qc/index.html")
    return Packing(plan=plan, is_new=is_new, encoder=encoder, done=done, jobs=jobs, counts=counts, dropped=dropped)


def pack(
    root: Path,
    packing: Packing,
    *,
    states: list[dict[str, Any]],
    specs: dict[str, SlideSpec],
    split: Split,
    settings: PrepareSettings,
    config: dict[str, Any],
    executor: Executor,
    git_revision: str | None,
    faults: list[dict[str, Any]],
) -> Manifest:
    """Write the shards and the manifest; ``states`` and ``faults`` are all slides that it lists.

    Raises:
        DataError: a slide's work is damaged.
        UserError: a full disk.
    """
    if packing.is_new:
        (root / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(root / "shards", ignore_errors=True)
    packing.plan.save(root)
    encoder, jobs, done = packing.encoder, packing.jobs, packing.done
    lines: dict[int, dict[str, Any]] = {}
    with progress(total=len(jobs), label="packing", unit="shard") as bar:
        for position, line in executor.map(write_shard, jobs):
            if isinstance(line, Died):
                raise UserError(f"{jobs[position].path}: {line.reason}; run the same command again")
            lines[position] = line
            bar.update()
    patients = {
        name: sorted({s["patient"] for s in done if split.of_patient[s["patient"]] == name}) for name in (TRAIN, TEST)
    }
    if split.held_out == AREA:
        patients[TEST] = patients[TRAIN]
    columns: dict[str, dict[str, Any]] = {
        "image": {"format": settings.image_format},
        "grid": {"dim": encoder["dim"]},
        "meta": {},
    }
    if any("reference" in line["columns"] for line in lines.values()):
        columns["reference"] = {"format": "png", "fraction": settings.reference}
    manifest = Manifest(
        name=settings.name,
        ladder=settings.ladder,
        encoder=EncoderInfo(**encoder),
        columns=columns,
        shards=[ShardInfo(**lines[i]) for i in range(len(jobs))],
        counts=packing.counts,
        patients=patients,
        held_out=split.held_out,
        dropped=packing.dropped,
        slides=[_slide_line(state, split) for state in sorted(states + faults, key=lambda s: s["slide"])],
        glass={s["slide"]: s["glass"] for s in done},
        config=config,
        code_version=__version__,
        git_revision=git_revision,
    )
    manifest.save(root)
    replace(packing.plan, inputs_sha256=inputs_hash(states, specs, split, settings)).save(root)
    return manifest


def _slide_line(state: dict[str, Any], split: Split) -> dict[str, Any]:
    line = {name: state.get(name) for name in ("slide", "patient", "status", "reason")}
    if state["status"] == "done":
        line |= {
            "split": AREA if split.held_out == AREA else split.of_patient[state["patient"]],
            "mpp_true": state["scale"]["mpp_true"],
            "method": state["scale"]["method"],
            "counts": state["counts"],
            "unreadable_tiles": state["unreadable_tiles"],
            "regions_skipped": state["regions_skipped"],
        }
    return line
