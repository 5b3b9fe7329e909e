"""Finished shards are never touched: new ones are written beside them, in ``shards.new``, and take their place whole.

``shards.new/manifest.json`` is written last and says that the new set is whole. From then on the exchange goes forward
only: ``shards`` becomes ``shards.old``, ``shards.new`` becomes ``shards``, the manifest is renamed into place, and what
was there before is deleted. A process that is killed in between is carried on by the next (``finish_exchange``).
"""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_prep.pack.jobs import SHARDS, ShardJob
from zoomldm.data.manifest import MANIFEST_NAME
from zoomldm.files import open_atomically, write_json

NEW, OLD = "shards.new", "shards.old"
PURPOSE = "purpose.json"


def begin(root: Path, purpose: Mapping[str, Any]) -> None:
    """Make ``shards.new`` ready; what another purpose left there half-done goes, what this one left is taken up."""
    path, content = root / NEW / PURPOSE, json.loads(json.dumps(purpose, default=str))
    try:
        is_ours = json.loads(path.read_bytes()) == content
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        shutil.rmtree(root / NEW, ignore_errors=True)
        write_json(path, content)


def finish_exchange(root: Path) -> None:
    """Carry an exchange that was cut off to its end; do nothing where there is none."""
    new, now, old = root / NEW, root / SHARDS, root / OLD
    if (new / MANIFEST_NAME).is_file():
        if now.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(now, old)
        os.replace(new, now)
    if (now / MANIFEST_NAME).is_file():
        (now / PURPOSE).unlink(missing_ok=True)
        os.replace(now / MANIFEST_NAME, root / MANIFEST_NAME)
    if now.is_dir():
        shutil.rmtree(old, ignore_errors=True)


def place_kept(jobs: Iterable[ShardJob], kept: Mapping[str, str]) -> None:
    """Give shards that stay their places among the new ones, with all their columns.

    kept: old path of a shard by its new one.
    """
    for job in jobs:
        if job.path in kept and not job.record_path.is_file():
            old = job.root / kept[job.path]
            link_shard(old, job.base)
            with suppress(OSError, ValueError):  # without its record it is written like a new one
                line = json.loads(Path(f"{old}.json").read_bytes())
                write_json(job.record_path, line | {"path": job.path})


def link_shard(old: Path, new: Path, *, but: Collection[str] = ()) -> None:
    """Give a shard's files (``NNNNN.<column>…``) a second name, all but its own record and some columns'."""
    new.parent.mkdir(parents=True, exist_ok=True)
    for path in sorted(old.parent.glob(f"{old.name}.*.*")):
        rest = path.name.removeprefix(old.name)
        target = new.with_name(new.name + rest)
        if rest.split(".")[1] in but or target.exists():
            continue
        try:
            os.link(path, target)
        except OSError:  # a file system without hard links
            copy_if_there(path, target)


def copy_if_there(path: Path, target: Path) -> None:
    """Copy a file, atomically; do nothing where there is none."""
    if not path.is_file():
        return
    with open(path, "rb") as source, open_atomically(target) as stream:
        shutil.copyfileobj(source, stream)
