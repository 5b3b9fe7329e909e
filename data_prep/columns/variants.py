"""Turned latents for augmentation: the seven other flips and quarter turns of each patch, encoded, as one more column.

An autoencoder does not commute with turning, so the patches are turned and not the latents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.columns.latent import Encode
from zoomldm.data.dihedral import NUM_VARIANTS, transformed
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import decode_image, encode_npy, fields_of
from zoomldm.data.shards import ShardReader, column_path, write_column
from zoomldm.errors import DataError
from zoomldm.files import progress, sha256_of

PATCHES_AT_ONCE = 16


def add_variants(manifest: Manifest, encode: Encode, magnifications: Sequence[float]) -> Manifest:
    """Write the column `variants` for the training shards of some magnifications: (7, c, h, w) float16 a sample.

    Args:
        encode: (n, p, p, 3) uint8 -> (n, c, h, w) float, by the autoencoder that made the latents.

    Raises:
        DataError: there are no latents yet, or a shard is damaged.
    """
    root = Path(manifest.root)
    latent = manifest.columns.get("latent")
    if latent is None:
        raise DataError(f"{root}: no latents yet; run data_prep/latents.py without variants= first")
    wanted = {manifest.ladder.rung_of(m).magnification for m in magnifications}
    sha256 = latent["autoencoder_sha256"]
    stale = manifest.columns.get("variants", {}).get("autoencoder_sha256") != sha256
    todo = [
        (n, shard)
        for n, shard in enumerate(manifest.shards)
        if shard.split == "train" and shard.magnification in wanted and (stale or "variants" not in shard.columns)
    ]
    if stale:  # no manifest may speak of variants of other latents
        manifest.shards = [
            replace(s, columns={k: v for k, v in s.columns.items() if k != "variants"}) for s in manifest.shards
        ]
    with progress(total=sum(shard.num_samples for _, shard in todo), label="variants", unit="patch") as bar:
        for n, shard in todo:
            reader = ShardReader(root, shard.path, ["image"], image_format=manifest.image_format)
            tar = column_path(root / shard.path, "variants")
            write_column(tar, _turned(reader, encode, fields_of("image", manifest.image_format)[0]))
            reader.close()
            facts = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
            manifest.shards[n] = replace(manifest.shards[n], columns=manifest.shards[n].columns | {"variants": facts})
            manifest.columns = manifest.columns | {"variants": {"autoencoder_sha256": sha256}}
            manifest.save(root)
            bar.update(shard.num_samples)
    print(f"{root}: turned latents at {', '.join(f'{m:g}' for m in sorted(wanted, reverse=True))}")
    return manifest


def _turned(reader: ShardReader, encode: Encode, extension: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    for start in range(0, len(reader), PATCHES_AT_ONCE):
        positions = range(start, min(start + PATCHES_AT_ONCE, len(reader)))
        patches = [decode_image(reader.read(i)["image"][extension]) for i in positions]
        turned = [transformed(patch, v, axes=(0, 1)) for patch in patches for v in range(1, NUM_VARIANTS)]
        latents = encode(np.stack(turned)).astype(np.float16)
        for i, found in zip(positions, latents.reshape(len(positions), NUM_VARIANTS - 1, *latents.shape[1:])):
            yield reader.key(i), {"variants.npy": encode_npy(found)}
