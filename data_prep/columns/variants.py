"""Turned latents for augmentation: the seven other flips and quarter turns of each patch, encoded, as one more column.

An autoencoder does not commute with turning, so the patches are turned and not the latents.

Legend: n patches, v variants, p patch side, c h w latent.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from data_prep.columns.latent import Encode
from data_prep.columns.record import ColumnRecord, Samples, read_record, write_recorded
from data_prep.pack.exchange import shards_locked
from zoomldm.data.dihedral import NUM_VARIANTS, transformed
from zoomldm.data.manifest import Manifest, ShardInfo
from zoomldm.data.schema import decode_image, encode_npy, fields_of
from zoomldm.data.shards import ShardReader
from zoomldm.errors import DataError
from zoomldm.files import progress

PATCHES_AT_ONCE = 16
COLUMN = "variants"


def add_variants(manifest: Manifest, encode: Encode, magnifications: Sequence[float]) -> Manifest:
    """Write the column `variants` for the training shards of some magnifications: (7, c, h, w) float16 a sample.

    Args:
        encode: by the autoencoder that made the latents.

    Raises:
        DataError: there are no latents yet, or a shard is damaged.
    """
    root = Path(manifest.root)
    with shards_locked(root):
        return _add_variants(root, Manifest.load(root), encode, magnifications)


def _add_variants(root: Path, manifest: Manifest, encode: Encode, magnifications: Sequence[float]) -> Manifest:
    latent = manifest.columns.get("latent")
    if latent is None:
        raise DataError(f"{root}: no latents yet; run data_prep/latents.py without variants= first")
    made_by = {"autoencoder_sha256": latent["autoencoder_sha256"]}
    if manifest.columns.get(COLUMN, made_by) != made_by:
        manifest = manifest.without(COLUMN)
        manifest.save(root)
    wanted = {manifest.ladder.rung_of(m).magnification for m in magnifications}
    todo = [
        shard
        for shard in manifest.shards
        if shard.split == "train" and shard.magnification in wanted and COLUMN not in shard.columns
    ]
    records: dict[str, ColumnRecord] = {}
    with progress(total=sum(shard.num_samples for shard in todo), label="variants", unit="patch") as bar:
        for shard in todo:
            records[shard.path] = _write_shard(root, shard, manifest.image_format, encode, made_by)
            bar.update(shard.num_samples)
    if todo:
        manifest = manifest.with_column(COLUMN, made_by, {path: record.tar for path, record in records.items()})
        manifest.save(root)
    print(f"{root}: turned latents at {', '.join(f'{m:g}' for m in sorted(wanted, reverse=True))}")
    return manifest


def _write_shard(
    root: Path, shard: ShardInfo, image_format: str, encode: Encode, made_by: dict[str, str]
) -> ColumnRecord:
    base = root / shard.path
    if record := read_record(base, COLUMN, made_by):
        return record
    reader = ShardReader(root, shard.path, ["image"], image_format=image_format)
    try:
        samples = _turned(reader, encode, fields_of("image", image_format)[0])
        return write_recorded(base, COLUMN, made_by, samples, found={})
    finally:
        reader.close()


def _turned(reader: ShardReader, encode: Encode, extension: str) -> Samples:
    for start in range(0, len(reader), PATCHES_AT_ONCE):
        numbers = range(start, min(start + PATCHES_AT_ONCE, len(reader)))
        patches = [decode_image(reader.read(i)["image"][extension]) for i in numbers]
        turned = [transformed(patch, v, axes=(0, 1)) for patch in patches for v in range(1, NUM_VARIANTS)]
        latents = rearrange(encode(np.stack(turned)).astype(np.float16), "(n v) c h w -> n v c h w", n=len(numbers))
        for number, found in zip(numbers, latents, strict=True):
            yield reader.key(number), {"variants.npy": encode_npy(found)}
