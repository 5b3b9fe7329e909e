"""Another encoder for finished shards (``encoder=ctranspath add=grid``): tiles are read and encoded again, images stay.

The new rows are written beside the slides', the new grids beside the shards, and all take their place together
(pack/exchange.py); a killed run goes on where it stopped.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.columns.record import ColumnRecord, read_record, write_recorded
from data_prep.execution.encoding.own import get_encoder
from data_prep.execution.encoding.queue import TileQueue
from data_prep.execution.executor import Died, Executor
from data_prep.fold.quadtree import Fold
from data_prep.pack.added import WORK_COLUMNS
from data_prep.pack.agreement import agree
from data_prep.pack.exchange import NEW, begin, exchange, link_shard, shards_locked
from data_prep.pack.jobs import ShardJob, make_jobs
from data_prep.pack.plan_file import ShardPlan, read_plan
from data_prep.pack.shard_plan import Changes, inputs_hash, known_splits, new_plan, packed_specs
from data_prep.pack.statistics import is_standardised, one_encoder, train_statistics
from data_prep.pack.write import grids_of
from data_prep.preparation import Contents, Preparation
from data_prep.slides.slide import Slide
from data_prep.work.cache import at_hand
from data_prep.work.folder import check_settings, write_settings
from data_prep.work.job import SlideJob
from data_prep.work.state import DONE, DoneSlide
from zoomldm.data.manifest import EncoderInfo, Manifest
from zoomldm.data.shards import column_path
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError, UserError
from zoomldm.files import progress, raise_if_disk_fault, write_json


def replace_grids(preparation: Preparation, executor: Executor, *, repack: bool = False) -> Manifest:
    """Give finished shards that have others the grids of ``slide_settings.encoder``, and the folder its settings.

    Raises:
        ConfigError: the folder was made with other settings than these, or ``repack`` does not agree.
        DataError: there are no shards yet, or a slide is gone or has changed since they were made.
    """
    with shards_locked(preparation.root):
        return _replace_grids(preparation, executor, repack=repack)


def _replace_grids(preparation: Preparation, executor: Executor, *, repack: bool) -> Manifest:
    root = preparation.root
    check_settings(root, preparation.slide_settings, but="encoder")
    manifest, plan = Manifest.load(root), read_plan(root)
    if plan is None:
        raise DataError(f"{root}: shards/plan.json is missing; run prepare.py without add=grid")
    named = packed_specs(preparation, plan)
    specs = sorted([*preparation.specs, *named], key=lambda spec: spec.name)
    preparation = replace(preparation, specs=specs, waiting=True)
    packed = [line["slide"] for line in manifest.slides if line["status"] == DONE]
    todo = _to_encode(preparation, packed)
    if not todo and _is_there(manifest, get_encoder(preparation.slide_settings.encoder)):
        print(f"{root}: nothing to do, its grids are by {manifest.encoder.name}")
        return manifest
    grids = [column_path(root / shard.path, "grid") for shard in manifest.shards if "grid" in shard.columns]
    now, before = preparation.slide_settings.encoder.name, manifest.encoder.name
    why = f"grids by {now}" + (" that are lost, cut or of other weights" if now == before else f" instead of {before}")
    agree(root, [tar for tar in grids if tar.is_file()], why=why, repack=repack)
    _encode_slides(preparation, todo, executor)
    contents = _contents(preparation, packed)
    manifest = _write_grids(contents, plan, manifest, executor)
    _renewed(plan, preparation, packed, manifest.encoder.statistics).save(root / NEW)
    write_settings(root / NEW, preparation.slide_settings)
    manifest = exchange(root, manifest)
    print(
        f"{root}: grids by {manifest.encoder.name}, {manifest.encoder.dim} channels, in {len(manifest.shards)} shards"
    )
    return manifest


def _is_there(manifest: Manifest, encoder: Encoder) -> bool:
    """Say whether every shard has its grids by this encoder, as long as the manifest says."""
    made_by = manifest.encoder
    if (made_by.name, made_by.weights_sha256) != (encoder.name, encoder.weights_sha256):
        return False
    tars = [(column_path(Path(manifest.root) / s.path, "grid"), s.columns.get("grid")) for s in manifest.shards]
    return all(facts and tar.is_file() and tar.stat().st_size == facts["bytes"] for tar, facts in tars)


def _contents(preparation: Preparation, packed: list[str]) -> Contents:
    states = {state.slide: state for state in preparation.states() if isinstance(state, DoneSlide)}
    specs = [preparation.spec_of[name] for name in packed]
    split = preparation.split(specs, known_splits(preparation))
    return Contents(preparation=preparation, done=[states[name] for name in packed], split=split)


def _to_encode(preparation: Preparation, packed: list[str]) -> list[SlideJob]:
    """Return the packed slides whose tiles are yet to be encoded.

    Raises:
        DataError: one is gone or has changed.
    """
    settings, specs = preparation.slide_settings, preparation.spec_of
    stores = {name: preparation.store(name) for name in packed}
    missing = []
    for name, store in stores.items():
        state = store.done()
        is_there = name in specs and state is not None
        if not is_there or not store.is_done(specs[name], by_area=state.by_area, regions=settings.tissue.regions):
            missing.append(name)
    if missing:
        raise DataError(
            f"{preparation.root}: slides that its shards were made of are gone or have changed: {', '.join(missing)}"
        )
    jobs = [SlideJob.of(specs[name], settings, preparation.root, by_area=False) for name in packed]
    return [job for job, name in zip(jobs, packed, strict=True) if not _is_encoded(job, stores[name].done())]


def _encode_slides(preparation: Preparation, todo: list[SlideJob], executor: Executor) -> None:
    with progress(total=len(todo), label="encoding", unit="slide") as bar:
        for number, result in executor.map(encode_slide, todo, encoder=preparation.slide_settings.encoder):
            if isinstance(result, Died | str):
                reason = result if isinstance(result, str) else result.reason
                raise DataError(f"{todo[number].spec.path}: {reason}")
            bar.update()


def _is_encoded(job: SlideJob, state: DoneSlide) -> bool:
    """Say whether the slide's rows, or those waiting beside them, are this encoder's."""
    encoder, made = get_encoder(job.settings.encoder), state.encoder
    return (made.get("name"), made.get("weights_sha256")) == (encoder.name, encoder.weights_sha256)


def encode_slide(job: SlideJob) -> str | None:
    """Encode the tiles that a slide's map holds, in the map's order; return what went wrong, if anything."""
    with job.store.lock(), at_hand(job.spec, job.settings.cache) as spec:
        return _encode(replace(job, spec=spec))


def _encode(job: SlideJob) -> str | None:
    encoder, ladder, store = get_encoder(job.settings.encoder), job.settings.ladder, job.store
    state, cells = store.done(), store.cells()
    slide = Slide(job.spec, ladder.base_mpp, job.settings.readers, use_icc=job.settings.icc)
    if (slide.scale.level, slide.pitch_px0) != (state.scale.level, state.scale.pitch_px0):
        slide.close()
        return (
            f"its shards were made from level {state.scale.level}, and level {slide.scale.level} would be read now; "
            f"delete {store.folder} and run prepare.py with repack=true, which reads it again"
        )
    slide.glass = np.array(state.glass, np.uint8)
    queue = TileQueue(encoder)
    queue.add(np.broadcast_to(slide.glass, (1, ladder.patch_px, ladder.patch_px, 3)))
    order: list[np.ndarray] = [np.zeros(1, cells.dtype)]

    def on_tiles(corners: np.ndarray, tiles: np.ndarray) -> None:
        order.append(cells[corners[:, 0], corners[:, 1]])
        queue.add(tiles)

    try:
        result = Fold(slide.read_boxes, ladder, cells.shape, [], cells > 0).run(lambda *_: None, on_tiles, slide.glass)
        slide.check_unchanged()
    finally:
        slide.close()
    if result.unreadable:
        return f"{len(result.unreadable)} tiles that were read before cannot be decoded now"
    encoded = queue.finish()
    rows = np.empty_like(encoded)
    rows[np.concatenate(order)] = encoded
    try:
        store.save_new_rows(rows, encoder)
    except OSError as error:
        raise_if_disk_fault(error, store.folder)
        raise
    return None


@dataclass(frozen=True)
class GridJob:
    """One shard's grids, and what its encoder is."""

    shard: ShardJob
    encoder: str


def write_grids(job: GridJob) -> ColumnRecord:
    """Write a shard's grids; a finished tar is left as it is."""
    made_by = {"encoder": job.encoder}
    base = job.shard.base
    link_shard(job.shard.root / job.shard.path, base, but=("grid",))
    return read_record(base, "grid", made_by) or write_recorded(base, "grid", made_by, grids_of(job.shard), found={})


def _write_grids(contents: Contents, plan: ShardPlan, manifest: Manifest, executor: Executor) -> Manifest:
    """Write every shard's grids beside the shards that are there, and return the manifest with them."""
    encoder = one_encoder(contents)
    encoder["statistics"] = train_statistics(contents) if is_standardised(contents) else None
    jobs, _, _ = make_jobs(contents, statistics=encoder["statistics"], batches=plan.batches)
    if [job.path for job in jobs] != [shard.path for shard in manifest.shards]:
        raise DataError(
            f"{contents.root}: its slides no longer make the shards that are there; run prepare.py without add=grid"
        )
    jobs = [replace(job, folder=NEW, waiting=True) for job in jobs]
    identity = json.dumps(encoder, sort_keys=True)
    begin(contents.root, {"grids": identity, "manifest": manifest.sha256})
    tars: dict[str, dict[str, Any]] = {}
    with progress(total=len(jobs), label="grids", unit="shard") as bar:
        for number, record in executor.map(write_grids, [GridJob(job, identity) for job in jobs]):
            if isinstance(record, Died):
                raise UserError(f"{jobs[number].path}: {record.reason}; run the same command again")
            tars[jobs[number].path] = record.tar
            bar.update()
    shards = {shard.path: shard for shard in manifest.shards}
    for job in jobs:
        line = asdict(shards[job.path])
        line["columns"] = {name: facts for name, facts in line["columns"].items() if name in WORK_COLUMNS}
        write_json(job.record_path, line | {"columns": line["columns"] | {"grid": tars[job.path]}})
    return replace(manifest.with_column("grid", {"dim": encoder["dim"]}, tars), encoder=EncoderInfo(**encoder))


def _renewed(
    plan: ShardPlan, preparation: Preparation, packed: list[str], statistics: dict[str, Any] | None
) -> ShardPlan:
    """Return the shards' plan with what makes them the new encoder's."""
    contents = _contents(preparation, packed)
    return replace(
        new_plan(plan, contents, Changes()),
        statistics=statistics,
        inputs_sha256=inputs_hash(preparation.states(), contents),
    )
