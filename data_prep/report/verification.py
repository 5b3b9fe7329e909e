"""Compare shards with what the manifest says of them; every fault is one line that names the file."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.pack.splits import PATIENTS
from zoomldm.data.manifest import Manifest, ShardInfo
from zoomldm.data.schema import SPLITS, TEST, TRAIN, SampleMeta, decode_image, fields_of, is_reference
from zoomldm.data.shards import ColumnReader, build_index, column_path, index_path, read_keys
from zoomldm.errors import DataError
from zoomldm.files import progress, sha256_of
from zoomldm.ladder import label
from zoomldm.stored import read_npy

IMAGES_DECODED = 8  # of each shard


def verify(manifest: Manifest) -> list[str]:
    """Check counts, checksums, keys across columns, some images, and that no patient is in both; return the faults."""
    faults = []
    for shard in progress(manifest.shards, label="verify", unit="shard"):
        faults += _faults_of_shard(manifest, shard)
    faults += _faults_of_counts(manifest)
    if manifest.held_out == PATIENTS:
        both = set(manifest.patients[TRAIN]) & set(manifest.patients[TEST])
        faults += [f"manifest.json: patient {patient} is in train and in test" for patient in sorted(both)]
    return faults + _unknown_tars(manifest)


def _faults_of_counts(manifest: Manifest) -> Iterator[str]:
    counted: dict[str, Counter] = {split: Counter() for split in SPLITS}
    for shard in manifest.shards:
        counted[shard.split][label(shard.magnification)] += shard.num_samples
    for split, counts in counted.items():
        if dict(counts) != manifest.counts.get(split, {}):
            yield f"manifest.json: {split} counts {manifest.counts.get(split)}, its shards add up to {dict(counts)}"


def _unknown_tars(manifest: Manifest) -> list[str]:
    root = Path(manifest.root)
    known = {column_path(root / shard.path, column) for shard in manifest.shards for column in shard.columns}
    found = sorted((root / "shards").rglob("*.tar"))
    return [f"{tar.relative_to(root)}: not in the manifest" for tar in found if tar not in known]


def _faults_of_shard(manifest: Manifest, shard: ShardInfo) -> list[str]:
    """Check a shard's tars one by one, then against each other, and what their samples say of themselves."""
    root = Path(manifest.root)
    faults: list[str] = []
    keys: dict[str, list[str]] = {}
    for column, facts in shard.columns.items():
        tar = column_path(root / shard.path, column)
        faults += faults_of_tar(root, tar, facts)
        with suppress(DataError, OSError):  # said above
            keys[column] = read_keys(tar)
    faults += _faults_of_keys(manifest, shard, keys)
    return faults or [
        *_faults_of_metas(manifest, shard, keys["meta"]),
        *_faults_of_images(manifest, shard, keys["image"]),
    ]


def faults_of_tar(root: Path, tar: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Compare a tar and its index with what the manifest says of it."""
    name = tar.relative_to(root)
    if not tar.is_file():
        yield f"{name}: missing"
        return
    try:
        if tar.stat().st_size != facts["bytes"]:
            yield f"{name}: {tar.stat().st_size} bytes, the manifest says {facts['bytes']}"
        elif sha256_of(tar) != facts["sha256"]:
            yield f"{name}: its checksum is not the manifest's"
    except OSError as error:
        yield f"{name}: cannot be read ({error.strerror})"
        return
    try:
        index = build_index(tar)
        if not np.array_equal(read_npy(index_path(tar)), index):
            yield f"{index_path(name)}: not the index of its tar; delete it to have it rebuilt"
    except DataError as error:
        yield str(error).replace(f"{root}/", "")
    except (OSError, ValueError):
        yield f"{index_path(name)}: missing or unreadable"


def _faults_of_keys(manifest: Manifest, shard: ShardInfo, keys: dict[str, list[str]]) -> Iterator[str]:
    whole = {column: k for column, k in keys.items() if column != "reference"}
    for column, found in whole.items():
        if len(found) != shard.num_samples:
            yield f"{shard.path}: column {column} holds {len(found)} samples, the manifest says {shard.num_samples}"
        if found != next(iter(whole.values())):
            yield f"{shard.path}: the keys of column {column} are not those of {next(iter(whole))}"
    if "reference" in keys and "image" in keys:
        fraction = manifest.columns["reference"]["fraction"][label(shard.magnification)]
        if keys["reference"] != [key for key in keys["image"] if is_reference(key, fraction)]:
            yield f"{shard.path}: column reference does not hold the samples that its fraction {fraction} chooses"


def _faults_of_images(manifest: Manifest, shard: ShardInfo, keys: list[str]) -> Iterator[str]:
    """Decode some images, spread over the shard: a checksum says nothing of what was damaged before it was packed."""
    fields = fields_of("image", manifest.image_format)
    reader = ColumnReader(column_path(Path(manifest.root) / shard.path, "image"), fields)
    try:
        for number in sorted({round(at) for at in np.linspace(0, len(keys) - 1, IMAGES_DECODED)}):
            try:
                shape = decode_image(reader[number][fields[0]]).shape
            except (OSError, ValueError, SyntaxError) as error:  # as Pillow calls a broken PNG
                yield f"{shard.path}: the image of {keys[number]} cannot be decoded ({error})"
                continue
            if shape[:2] != (manifest.ladder.patch_px,) * 2:
                yield f"{shard.path}: the image of {keys[number]} has {shape[1]} x {shape[0]} px"
    finally:
        reader.close()


def _faults_of_metas(manifest: Manifest, shard: ShardInfo, keys: list[str]) -> list[str]:
    """Compare each sample's own words with its place; the first that differ are enough."""
    reader = ColumnReader(column_path(Path(manifest.root) / shard.path, "meta"), fields_of("meta"))
    patients = set(manifest.patients[shard.split])
    try:
        for number, key in enumerate(keys):
            meta = SampleMeta.decode(reader[number]["json"])
            if (meta.key, meta.split, meta.magnification) != (key, shard.split, shard.magnification):
                return [f"{shard.path}: meta of {key} says {meta.key}, {meta.split}, {meta.magnification:g}x"]
            if meta.patient not in patients:
                return [f"{shard.path}: meta of {key} says patient {meta.patient}, who is not in {shard.split}"]
    except (ValueError, TypeError) as error:
        return [f"{shard.path}: meta of {key} cannot be read ({error})"]
    finally:
        reader.close()
    return []
