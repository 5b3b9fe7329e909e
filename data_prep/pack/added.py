"""Columns that were added to shards (latents, turned latents), when shards are packed again."""

from collections.abc import Mapping

from zoomldm.data.manifest import Manifest

WORK_COLUMNS = ("image", "grid", "meta", "reference")
"""Columns that packing makes of the slides' work; others are added later."""


def what_is_to_be_added(manifest: Manifest, old: Manifest | None) -> str:
    """Return in words which column that was added to the old shards the new ones lack; "" where none."""
    facts = (old.columns if old else {}).get("latent")
    if facts is None or "latent" in manifest.columns:
        return ""
    return (
        f"there were latents by {facts.get('source')}, and new shards have none yet: run python data_prep/latents.py "
        f"data={manifest.name} … as before; tars of latents that are there stay, the others are made"
    )


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
