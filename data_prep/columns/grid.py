"""Another encoder for finished shards (``encoder=ctranspath add=grid``): tiles are read and encoded again, images stay.

While grids are being replaced the manifest has no grid column, so that nothing trains on a mixture; a killed run goes
on where it stopped.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.execution.encoding.queue import TileQueue, get_encoder
from data_prep.execution.local import Died, Executor
from data_prep.fold.quadtree import Fold
from data_prep.pack.pack import ShardJob, grids_of, make_jobs, one_encoder, train_statistics
from data_prep.pack.shard_plan import read_plan
from data_prep.pack.splits import Split
from data_prep.settings import PrepareSettings
from data_prep.slides.slide import Slide
from data_prep.slides.table import SlideSpec
from data_prep.work.prepare_slide import (
    DONE,
    STATE_NAME,
    SlideJob,
    is_done,
    read_state,
    slide_folder,
    stored_rows,
)
from zoomldm.data.manifest import EncoderInfo, Manifest
from zoomldm.data.shards import column_path, write_column
from zoomldm.errors import DataError, UserError
from zoomldm.files import open_atomically, progress, raise_if_disk_fault, sha256_of, write_json

NEW_ROWS = "rows.new.npy"


def add_grid(
    root: Path, specs: list[SlideSpec], settings: PrepareSettings, split: Split, executor: Executor
) -> Manifest:
    """Replace the grid column by that of ``settings.encoder``.

    Raises:
        DataError: there are no shards yet, or a slide is gone or has changed since they were made.
    """
    manifest = Manifest.load(root)
    by_name = {spec.name: spec for spec in specs}
    packed = [line["slide"] for line in manifest.slides if line["status"] == DONE]
    missing = [name for name in packed if name not in by_name or not is_done(root, by_name[name])]
    if missing:
        raise DataError(f"{root}: slides that its shards were made of are gone or have changed: {', '.join(missing)}")
    jobs = [SlideJob(spec=by_name[name], settings=settings, root=root, by_area=False) for name in packed]
    todo = [job for job in jobs if not _is_encoded(job)]
    with progress(total=len(todo), label="encoding", unit="slide") as bar:
        for position, result in executor.map(encode_slide, todo, encoder=settings.encoder):
            if isinstance(result, Died | str):
                raise DataError(f"{todo[position].spec.path}: {result if isinstance(result, str) else result.reason}")
            bar.update()
    states = [state for name in packed if (state := read_state(root, name))]
    _forget_grids(manifest, root)
    states = [_take_new_rows(root, state) for state in states]
    encoder = one_encoder(root, states)
    statistics = train_statistics(root, states, split) if encoder["name"] == "stats" else None
    encoder["statistics"] = statistics
    plan = read_plan(root)
    if plan is None:
        raise DataError(f"{root}: shards/plan.json is missing; run prepare.py without add=grid")
    shard_jobs, _, _ = make_jobs(root, states, by_name, split, settings, statistics, plan.batches)
    if [job.path for job in shard_jobs] != [shard.path for shard in manifest.shards]:
        raise DataError(f"{root}: its slides no longer make the shards that are there; run prepare.py without add=grid")
    identity = json.dumps(encoder, sort_keys=True)
    lines: dict[int, dict[str, Any]] = {}
    grid_jobs = [GridJob(job, identity) for job in shard_jobs]
    with progress(total=len(grid_jobs), label="grids", unit="shard") as bar:
        for position, line in executor.map(write_grids, grid_jobs):
            if isinstance(line, Died):
                raise UserError(f"{grid_jobs[position].shard.path}: {line.reason}; run the same command again")
            lines[position] = line
            bar.update()
    manifest.shards = [
        replace(shard, columns=shard.columns | {"grid": lines[i]}) for i, shard in enumerate(manifest.shards)
    ]
    manifest.columns["grid"] = {"dim": encoder["dim"]}
    manifest.encoder = EncoderInfo(**encoder)
    for i, job in enumerate(shard_jobs):
        record = root / f"{job.path}.json"
        content = json.loads(record.read_bytes())
        content["columns"]["grid"] = lines[i]
        write_json(record, content)
    manifest.save(root)
    print(f"{root}: grids by {encoder['name']}, {encoder['dim']} channels, in {len(shard_jobs)} shards")
    return manifest


def _is_encoded(job: SlideJob) -> bool:
    """Say whether the slide's rows, or those waiting beside them, are this encoder's."""
    if (slide_folder(job.root, job.spec.name) / NEW_ROWS).is_file():
        return True
    state = read_state(job.root, job.spec.name)
    encoder = get_encoder(job.settings.encoder)
    return bool(
        state
        and state["encoder"]["name"] == encoder.name
        and state["encoder"]["weights_sha256"] == encoder.weights_sha256
    )


def encode_slide(job: SlideJob) -> str | None:
    """Encode the tiles that a slide's map holds, in the map's order; return what went wrong, if anything."""
    encoder = get_encoder(job.settings.encoder)
    ladder = job.settings.ladder
    folder = slide_folder(job.root, job.spec.name)
    state = read_state(job.root, job.spec.name)
    with np.load(folder / "samples.npz") as samples:
        cells = samples["cells"]
    slide = Slide(job.spec, ladder.base_mpp, job.settings.readers)
    slide.glass = np.array(state["glass"], np.uint8)
    queue = TileQueue(encoder)
    queue.add(np.broadcast_to(slide.glass, (1, ladder.patch_px, ladder.patch_px, 3)))
    order: list[np.ndarray] = []

    def on_tiles(positions: np.ndarray, tiles: np.ndarray) -> None:
        order.append(cells[positions[:, 0], positions[:, 1]])
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
    rows[np.concatenate([[0], *order])] = encoded
    try:
        with open_atomically(folder / "encoder.new.json") as stream:
            stream.write(json.dumps(encoder.describe()).encode())
        with open_atomically(folder / NEW_ROWS) as stream:
            np.save(stream, stored_rows(rows, encoder))
    except OSError as error:
        raise_if_disk_fault(error, folder)
        raise
    return None


def _forget_grids(manifest: Manifest, root: Path) -> None:
    if "grid" in manifest.columns:
        manifest.columns = {name: facts for name, facts in manifest.columns.items() if name != "grid"}
        manifest.shards = [
            replace(shard, columns={k: v for k, v in shard.columns.items() if k != "grid"}) for shard in manifest.shards
        ]
        manifest.save(root)


def _take_new_rows(root: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Put the new rows in the old ones' place and their encoder into the state; the waiting file goes last."""
    folder = slide_folder(root, state["slide"])
    if (folder / NEW_ROWS).is_file():
        state = state | {"encoder": json.loads((folder / "encoder.new.json").read_bytes())}
        write_json(folder / STATE_NAME, state)
        os.replace(folder / NEW_ROWS, folder / "rows.npy")
    (folder / "encoder.new.json").unlink(missing_ok=True)
    return state


@dataclass(frozen=True)
class GridJob:
    """One shard's grids, and what its encoder is (a finished one is left as it is)."""

    shard: ShardJob
    encoder: str


def write_grids(job: GridJob) -> dict[str, Any]:
    """Write a shard's grid tar and return its line in the manifest."""
    base = job.shard.root / job.shard.path
    record, tar = Path(f"{base}.grid.json"), column_path(base, "grid")
    if record.is_file():
        content = json.loads(record.read_bytes())
        if content["encoder"] == job.encoder and tar.stat().st_size == content["bytes"]:
            return {"bytes": content["bytes"], "sha256": content["sha256"]}
    try:
        record.unlink(missing_ok=True)
        write_column(tar, grids_of(job.shard))
        line = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
        write_json(record, {"encoder": job.encoder, **line})
    except OSError as error:
        raise_if_disk_fault(error, tar)
        raise
    return line
