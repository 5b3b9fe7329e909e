"""Lost or damaged tars made again from the slides' work, with the bytes that they had (``verify.py repair=true``)."""

from dataclasses import replace
from pathlib import Path

from data_prep.columns.record import forget
from data_prep.contents import contents_of
from data_prep.pack.added import WORK_COLUMNS
from data_prep.pack.exchange import DAMAGED, finish_exchange, shards_locked
from data_prep.pack.pack import Packing, packing_of
from data_prep.pack.plan_file import read_plan
from data_prep.pack.shard_plan import known_splits, packed_specs
from data_prep.pack.write import write_shard
from data_prep.preparation import Preparation
from data_prep.report.verification import faults_of_tar
from zoomldm.data.manifest import Manifest
from zoomldm.data.shards import build_index, column_path, write_index
from zoomldm.errors import DataError
from zoomldm.files import remove, rename, sha256_of

IMAGES = {"image", "reference"}


def repair(preparation: Preparation, manifest: Manifest) -> list[str]:
    """Make again what is lost or damaged; return in words what was done, and what is left to do.

    The manifest is read again once the shards are locked.

    Raises:
        ConfigError: settings that are not those of the shards.
        DataError: the slides' work has changed, or slides must be read again.
    """
    root = Path(manifest.root)
    finish_exchange(root)
    with shards_locked(root):
        return _repair(preparation, Manifest.load(root), root)


def _repair(preparation: Preparation, manifest: Manifest, root: Path) -> list[str]:
    said: list[str] = []
    damaged: dict[str, list[str]] = {}
    for shard in manifest.shards:
        for column, facts in shard.columns.items():
            tar = column_path(root / shard.path, column)
            if not list(faults_of_tar(root, tar, facts)):
                continue
            if _is_whole(tar, facts["sha256"]):
                write_index(tar, build_index(tar))
                said.append(f"{tar.relative_to(root)}: its index was made again")
            elif column in WORK_COLUMNS:
                damaged.setdefault(shard.path, []).append(column)
            else:
                forget(root / shard.path, column)
                said.append(f"{tar.relative_to(root)}: python data_prep/latents.py, as before, makes it again")
    if damaged:
        said += _remake(_packing(preparation), damaged)
    return said


def _is_whole(tar: Path, sha256: str) -> bool:
    try:
        return sha256_of(tar) == sha256
    except OSError:
        return False


def set_aside(manifest: Manifest, faults: list[str], *, delete: bool) -> list[str]:
    """Say which damaged tars an earlier repair set aside, and with ``delete`` remove those whose tar is whole again.

    faults: what `verify` found.
    """
    said = []
    for path in sorted((Path(manifest.root) / "shards").rglob(f"*{DAMAGED}")):
        name = path.relative_to(manifest.root)
        if any(fault.startswith(f"{str(name).removesuffix(DAMAGED)}:") for fault in faults):
            said.append(f"{name}: kept until its tar is there again")
        elif delete:
            remove(path)
            said.append(f"{name}: removed, its tar is whole again")
        else:
            said.append(f"{name}: no longer needed, its tar is whole again; repair=true removes it")
    return said


def _packing(preparation: Preparation) -> Packing:
    empty = replace(preparation, specs=[])
    preparation = replace(preparation, specs=packed_specs(empty, read_plan(preparation.root)))
    packing = packing_of(contents_of(preparation, preparation.states(), known_splits(preparation)))
    if not packing.in_place:
        raise DataError(
            f"{preparation.root}: what its shards were made of has changed ({'; '.join(packing.changes.reasons)}); "
            "prepare.py repack=true makes all that this concerns anew"
        )
    return packing


def _remake(packing: Packing, damaged: dict[str, list[str]]) -> list[str]:
    said, root = [], packing.contents.root
    for job in packing.jobs:
        columns = damaged.get(job.path, [])
        store = packing.contents.preparation.store
        missing = [slide.name for slide in job.slides if not store(slide.name).has_images()]
        if missing and IMAGES & set(columns):
            for column in columns:
                tar = column_path(job.base, column)
                if tar.is_file():  # so that prepare.py sees that it is lost
                    rename(tar, Path(f"{tar}{DAMAGED}"))
            said.append(
                f"{job.path}: slides {', '.join(missing)} must be read again (drop_images=true deleted their patches): "
                "run prepare.py as before"
            )
        elif columns:
            write_shard(job, columns)
            said += [f"{column_path(job.base, c).relative_to(root)}: made again from the slides' work" for c in columns]
    return said
