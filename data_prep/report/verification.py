"""Compare shards with what the manifest says of them; every fault is one line that names the file."""

from collections import Counter
from pathlib import Path

import numpy as np

from zoomldm.data.manifest import Manifest, ShardInfo
from zoomldm.data.schema import SampleMeta, fields_of, is_reference
from zoomldm.data.shards import ColumnReader, build_index, column_path, index_path, read_keys
from zoomldm.errors import DataError
from zoomldm.files import progress, sha256_of


def verify(manifest: Manifest) -> list[str]:
    """Check counts, checksums, keys across columns, and that no patient is in both splits; return the faults."""
    root = Path(manifest.root)
    faults = [
        fault
        for shard in progress(manifest.shards, label="verify", unit="shard")
        for fault in _shard(root, manifest, shard)
    ]
    counted: dict[str, Counter] = {"train": Counter(), "test": Counter()}
    for shard in manifest.shards:
        counted[shard.split][f"{shard.magnification:.10g}x"] += shard.num_samples
    for split, counts in counted.items():
        if dict(counts) != manifest.counts.get(split, {}):
            faults.append(
                f"manifest.json: {split} counts {manifest.counts.get(split)}, its shards add up to {dict(counts)}"
            )
    if manifest.held_out == "patients":
        both = set(manifest.patients["train"]) & set(manifest.patients["test"])
        faults += [f"manifest.json: patient {patient} is in train and in test" for patient in sorted(both)]
    known = {column_path(root / shard.path, column) for shard in manifest.shards for column in shard.columns}
    faults += [
        f"{tar.relative_to(root)}: not in the manifest"
        for tar in sorted((root / "shards").rglob("*.tar"))
        if tar not in known
    ]
    return faults


def _shard(root: Path, manifest: Manifest, shard: ShardInfo) -> list[str]:
    keys: dict[str, list[str]] = {}
    faults = []
    for column, facts in shard.columns.items():
        tar = column_path(root / shard.path, column)
        name = tar.relative_to(root)
        if not tar.is_file():
            faults.append(f"{name}: missing")
            continue
        if tar.stat().st_size != facts["bytes"]:
            faults.append(f"{name}: {tar.stat().st_size} bytes, the manifest says {facts['bytes']}")
        elif sha256_of(tar) != facts["sha256"]:
            faults.append(f"{name}: its checksum is not the manifest's")
        try:
            index = build_index(tar)
            keys[column] = read_keys(tar)
            if not np.array_equal(np.load(index_path(tar)), index):
                faults.append(f"{index_path(name)}: not the index of its tar; delete it to have it rebuilt")
        except DataError as error:
            faults.append(str(error).replace(f"{root}/", ""))
        except (OSError, ValueError):
            faults.append(f"{index_path(name)}: missing or unreadable")
    whole = {column: k for column, k in keys.items() if column != "reference"}
    for column, found in whole.items():
        if len(found) != shard.num_samples:
            faults.append(
                f"{shard.path}: column {column} holds {len(found)} samples, the manifest says {shard.num_samples}"
            )
        if found != next(iter(whole.values())):
            faults.append(f"{shard.path}: the keys of column {column} are not those of {next(iter(whole))}")
    if "reference" in keys and "image" in keys:
        fractions = manifest.columns["reference"]["fraction"]
        fraction = fractions[f"{shard.magnification:.10g}x"]
        if keys["reference"] != [key for key in keys["image"] if is_reference(key, fraction)]:
            faults.append(
                f"{shard.path}: column reference does not hold the samples that its fraction {fraction} chooses"
            )
    if "meta" in keys and not faults:
        faults += _metas(root, shard, keys["meta"])
    return faults


def _metas(root: Path, shard: ShardInfo, keys: list[str]) -> list[str]:
    reader = ColumnReader(column_path(root / shard.path, "meta"), fields_of("meta"))
    try:
        for position, key in enumerate(keys):
            meta = SampleMeta.decode(reader[position]["json"])
            if (meta.key, meta.split, meta.magnification) != (key, shard.split, shard.magnification):
                return [f"{shard.path}: meta of {key} says {meta.key}, {meta.split}, {meta.magnification:g}x"]
    except (ValueError, TypeError) as error:
        return [f"{shard.path}: meta of {key} cannot be read ({error})"]
    finally:
        reader.close()
    return []
