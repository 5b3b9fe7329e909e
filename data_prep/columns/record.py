"""Columns that are added to finished shards: written shard by shard, resumed by a record beside each tar.

``NNNNN.<column>.json`` says what made the tar (``made_by``), its size and checksum, and what else was found on the
way. A tar whose record names the same maker and the right size is not written again; so a killed run goes on where it
stopped, and slides that are added cost only their own shards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomldm.data.shards import column_path, write_column
from zoomldm.files import raise_if_disk_fault, remove, sha256_of, write_json
from zoomldm.stored import read_json, stored_as

Samples = Iterator[tuple[str, dict[str, bytes]]]
"""Samples of a column: key, and bytes by field."""


@dataclass(frozen=True, kw_only=True)
class ColumnRecord:
    """A finished tar: ``tar`` is what the manifest says of it, ``found`` what its maker noted."""

    tar: dict[str, Any]
    found: dict[str, Any]


def read_record(base: Path, column: str, made_by: Mapping[str, Any]) -> ColumnRecord | None:
    """Return the record of a shard's finished tar, None where it is missing, cut or made by something else."""
    try:
        content = stored_as(dict[str, Any], read_json(_record_path(base, column)))
        is_ours = all(content[name] == value for name, value in made_by.items())
        if not is_ours or column_path(base, column).stat().st_size != content["bytes"]:
            return None
        tar = {"bytes": content["bytes"], "sha256": content["sha256"]}
    except (OSError, ValueError, KeyError):
        return None
    return ColumnRecord(tar=tar, found={k: v for k, v in content.items() if k not in tar and k not in made_by})


def write_recorded(
    base: Path, column: str, made_by: Mapping[str, Any], samples: Samples, found: dict[str, Any]
) -> ColumnRecord:
    """Write a shard's tar of a column, then its record.

    Args:
        base: the shard's path without a column (``.../00000``).
        samples: what the tar will hold; they may fill ``found`` as they are drawn.

    Raises:
        UserError: a full disk.
    """
    tar, record = column_path(base, column), _record_path(base, column)
    try:
        remove(record)
        write_column(tar, samples)
        facts = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
        write_json(record, {**made_by, **facts, **found})
    except OSError as error:
        raise_if_disk_fault(error, tar)
        raise
    return ColumnRecord(tar=facts, found=found)


def forget(base: Path, column: str) -> None:
    """Take away a tar's record, so that it is written again; the tar stays until then."""
    remove(_record_path(base, column))


def _record_path(base: Path, column: str) -> Path:
    return Path(f"{base}.{column}.json")
