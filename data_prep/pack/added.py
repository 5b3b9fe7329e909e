"""Columns that were added to shards (latents, turned latents), when shards are packed again."""

from collections.abc import Mapping

from zoomldm.data.manifest import Manifest

WORK_COLUMNS = ("image", "grid", "meta", "reference")
"""Columns that packing makes of the slides' work; others are added later."""


def with_added_columns(manifest: Manifest, old: Manifest | None, kept: Mapping[str, str]) -> Manifest:
    """Return the manifest with the columns that were added to the old one's shards, where all shards have them still.

    `variants` are kept where they are; they need not be everywhere.
    """
    if old is None:
        return manifest
    before = {shard.path: shard for shard in old.shards}
    same = {
        shard.path: before[path]
        for shard in manifest.shards
        if (path := kept.get(shard.path)) in before and before[path].columns["image"] == shard.columns["image"]
    }
    for column, facts in old.columns.items():
        have = {path: shard.columns[column] for path, shard in same.items() if column in shard.columns}
        if column not in WORK_COLUMNS and (len(have) == len(manifest.shards) or (column == "variants" and have)):
            manifest = manifest.with_column(column, facts, have)
    return manifest
