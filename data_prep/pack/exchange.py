"""Finished shards are never touched: new ones are written beside them, in ``shards.new``, and take their place whole.

``shards.new/manifest.json`` is written last and says that the new set is whole. From then on the exchange goes forward
only: ``shards`` becomes ``shards.old``, ``shards.new`` becomes ``shards``, rows of another encoder that wait beside the
slides' and its settings take their place, the manifest is renamed into place, and what was there before is deleted. A
process that is killed in between is carried on by the next (``finish_exchange``).
"""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_prep.pack.jobs import SHARDS, ShardJob
from data_prep.work.aside import OLD_SLIDES
from data_prep.work.folder import SETTINGS_NAME
from data_prep.work.lock import locked
from data_prep.work.store import SLIDES_FOLDER, SlideStore
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import DataError
from zoomldm.files import (
    link,
    open_atomically,
    remove,
    remove_temporaries,
    remove_tree,
    rename,
    sync_tree,
    write_json,
)
from zoomldm.stored import read_json

NEW, OLD = "shards.new", "shards.old"
DAMAGED = ".damaged"
"""Ends the names of tars that `repair` set aside."""
PURPOSE = "purpose.json"


@contextmanager
def shards_locked(root: Path) -> Iterator[None]:
    """Be the one process that writes shards; carry an exchange that was cut off to its end before."""
    with locked(root / ".shards.lock", f"writes the shards of {root}"):
        _carry_on(root)
        remove_temporaries(root, *_folders_in(root / SHARDS), *_folders_in(root / NEW))
        yield


def begin(root: Path, purpose: Mapping[str, Any]) -> None:
    """Make ``shards.new`` ready; what another purpose left there half-done goes, what this one left is taken up."""
    path, content = root / NEW / PURPOSE, json.loads(json.dumps(purpose, default=str))
    try:
        is_ours = read_json(path) == content
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        remove_tree(root / NEW)
        write_json(path, content)


def exchange(root: Path, manifest: Manifest) -> Manifest:
    """Let ``shards.new``, which is whole, take the place of the shards; the caller has them locked."""
    sync_tree(root / NEW, files=False)
    manifest.save(root / NEW)
    _carry_on(root)
    return Manifest.load(root)


def finish_exchange(root: Path) -> None:
    """Carry exchanges that were cut off to their end, of slides and of shards; do nothing where there are none."""
    for old in sorted((root / SLIDES_FOLDER).glob(OLD_SLIDES)):
        with SlideStore(root, old.name[1:].removesuffix(OLD_SLIDES[2:])).lock():
            pass
    if any(path.exists() for path in (root / NEW / MANIFEST_NAME, root / SHARDS / MANIFEST_NAME, root / OLD)):
        with shards_locked(root):
            pass


def _carry_on(root: Path) -> None:
    new, now, old = root / NEW, root / SHARDS, root / OLD
    if (new / MANIFEST_NAME).is_file():
        if now.is_dir():
            remove_tree(old)
            rename(now, old)
        rename(new, now)
    if (now / MANIFEST_NAME).is_file():
        if (now / SETTINGS_NAME).is_file():
            _take_new_rows(root, Manifest.load(now))
            rename(now / SETTINGS_NAME, root / SLIDES_FOLDER / SETTINGS_NAME)
        remove(now / PURPOSE)
        rename(now / MANIFEST_NAME, root / MANIFEST_NAME)
    if now.is_dir():
        remove_tree(old)


def _take_new_rows(root: Path, manifest: Manifest) -> None:
    """Put the rows that wait in the place of the old ones, in all slides that have some by the manifest's encoder."""
    encoder = manifest.encoder
    for path in sorted((root / SLIDES_FOLDER).glob("*/encoder.new.json")):
        store = SlideStore(root, path.parent.name)
        found = store.new_encoder()
        if found is None or (found["name"], found["weights_sha256"]) == (encoder.name, encoder.weights_sha256):
            store.take_new_rows()


def _folders_in(folder: Path) -> Iterator[Path]:
    yield from (folder, *(path for path in folder.glob("*/*") if path.is_dir()))


def place_kept(jobs: Iterable[ShardJob], kept: Mapping[str, str]) -> None:
    """Give shards that stay their places among the new ones, with all their columns.

    kept: old path of a shard by its new one.
    """
    for job in jobs:
        if job.path in kept and not job.record_path.is_file():
            old = job.root / kept[job.path]
            link_shard(old, job.base)
            with suppress(OSError, ValueError):  # without its record it is written like a new one
                line = read_json(f"{old}.json")
                write_json(job.record_path, line | {"path": job.path})


def link_shard(old: Path, new: Path, *, but: Collection[str] = ()) -> None:
    """Give a shard's files (``NNNNN.<column>…``) a second name, all but its own record and some columns'."""
    new.parent.mkdir(parents=True, exist_ok=True)
    for path in sorted(old.parent.glob(f"{old.name}.*.*")):
        rest = path.name.removeprefix(old.name)
        target = new.with_name(new.name + rest)
        if rest.split(".")[1] in but or rest.endswith(DAMAGED) or target.exists():
            continue
        try:
            link(path, target)
        except OSError:  # a file system without hard links
            copy_if_there(path, target)


def copy_if_there(path: Path, target: Path) -> None:
    """Copy a file, atomically; do nothing where there is none.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        return
    try:
        with open(path, "rb") as source, open_atomically(target) as stream:
            shutil.copyfileobj(source, stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be copied ({error.strerror}); check the disk and the file's rights") from error
