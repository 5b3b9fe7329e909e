"""The latent column: every patch through an autoencoder once, as one more tar a shard; and the latents' scale."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import decode_image, encode_npy, fields_of
from zoomldm.data.shards import ShardReader, column_path, write_column
from zoomldm.encoder.base import padded
from zoomldm.errors import DataError
from zoomldm.files import progress, raise_if_disk_fault, sha256_of, write_json

Encode = Callable[[np.ndarray], np.ndarray]


def add_latents(
    manifest: Manifest,
    encode: Encode,
    *,
    autoencoder_sha256: str,
    source: str,
    is_original: bool,
    batch_size: int = 128,
) -> Manifest:
    """Write the latents of every shard that has none by this autoencoder, and the column's facts into the manifest.

    Latents are float16, before quantisation and unscaled. The scale that training multiplies by is 1/std over the
    training part, 1.0 for published weights (LDM's convention for the ImageNet VQ-f4).

    Args:
        encode: (n, p, p, 3) uint8 -> (n, c, h, w) float.

    Raises:
        DataError: a shard is damaged, or the autoencoder gives numbers that float16 cannot hold.
        UserError: a full disk.
    """
    root = Path(manifest.root)
    facts = manifest.columns.get("latent")
    if facts and facts["autoencoder_sha256"] == autoencoder_sha256 and _all_there(manifest):
        print(f"{root}: nothing to do, its latents were made by {source}")
        return manifest
    if facts:  # no manifest may speak of a column that is being replaced
        manifest = replace(manifest, columns={k: v for k, v in manifest.columns.items() if k != "latent"})
        manifest.shards = [
            replace(s, columns={k: v for k, v in s.columns.items() if k != "latent"}) for s in manifest.shards
        ]
        manifest.save(root)
    records = []
    total = sum(shard.num_samples for shard in manifest.shards)
    with progress(total=total, label="latents", unit="patch") as bar:
        for shard in manifest.shards:
            record = _read_record(root, shard.path, autoencoder_sha256)
            if record is None:
                record = _write_shard(root, shard.path, manifest.image_format, encode, batch_size, autoencoder_sha256)
            records.append(record)
            bar.update(shard.num_samples)
    shapes = {tuple(record["shape"]) for record in records}
    if len(shapes) != 1:
        raise DataError(
            f"{root}: latents of unequal shapes {sorted(shapes)}; delete shards/*/*/*.latent.* and run again"
        )
    std = _std([r for r, shard in zip(records, manifest.shards, strict=True) if shard.split == "train"])
    manifest.shards = [
        replace(shard, columns=shard.columns | {"latent": {"bytes": record["bytes"], "sha256": record["sha256"]}})
        for shard, record in zip(manifest.shards, records, strict=True)
    ]
    manifest.columns = manifest.columns | {
        "latent": {
            "autoencoder_sha256": autoencoder_sha256,
            "source": source,
            "std": std,
            "scale": 1.0 if is_original else 1.0 / std,
            "shape": list(next(iter(shapes))),
        }
    }
    manifest.save(root)
    print(f"{root}: {total:,} latents {next(iter(shapes))} by {source}, std {std:.4f} on train")
    return manifest


def _all_there(manifest: Manifest) -> bool:
    return all(
        "latent" in shard.columns and column_path(Path(manifest.root) / shard.path, "latent").is_file()
        for shard in manifest.shards
    )


def _record_path(root: Path, shard: str) -> Path:
    return root / f"{shard}.latent.json"


def _read_record(root: Path, shard: str, autoencoder_sha256: str) -> dict[str, Any] | None:
    """Return what was noted of a finished latent tar, None where it is missing or another autoencoder's."""
    tar = column_path(root / shard, "latent")
    try:
        record = json.loads(_record_path(root, shard).read_bytes())
        whole = record["autoencoder_sha256"] == autoencoder_sha256 and tar.stat().st_size == record["bytes"]
    except (OSError, ValueError, KeyError):
        return None
    return record if whole else None


def _write_shard(
    root: Path, shard: str, image_format: str, encode: Encode, batch_size: int, autoencoder_sha256: str
) -> dict[str, Any]:
    reader = ShardReader(root, shard, ["image"], image_format=image_format)
    sums = {"count": 0, "sum": 0.0, "squares": 0.0, "shape": None}
    tar = column_path(root / shard, "latent")
    _record_path(root, shard).unlink(missing_ok=True)
    try:
        write_column(tar, _latents(reader, encode, fields_of("image", image_format)[0], batch_size, sums, shard))
        record = {
            "autoencoder_sha256": autoencoder_sha256,
            "bytes": tar.stat().st_size,
            "sha256": sha256_of(tar),
            **sums,
        }
        write_json(_record_path(root, shard), record)
    except OSError as error:
        raise_if_disk_fault(error, tar)
        raise
    finally:
        reader.close()
    return record


def _latents(
    reader: ShardReader, encode: Encode, extension: str, batch_size: int, sums: dict[str, Any], shard: str
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield a shard's latents in order and add them up; batches have a constant shape, the last one padded."""
    for start in range(0, len(reader), batch_size):
        positions = list(range(start, min(start + batch_size, len(reader))))
        images = np.stack([decode_image(reader.read(i)["image"][extension]) for i in positions])
        with np.errstate(over="ignore"):  # said below
            latents = encode(padded(images, batch_size))[: len(positions)].astype(np.float16)
        if not np.isfinite(latents).all():
            raise DataError(f"{shard}: the autoencoder gives numbers beyond float16; it is not trained, or damaged")
        wide = latents.astype(np.float64)
        sums["count"] += wide.size
        sums["sum"] += float(wide.sum())
        sums["squares"] += float((wide**2).sum())
        sums["shape"] = list(latents.shape[1:])
        for position, latent in zip(positions, latents, strict=True):
            yield reader.key(position), {"latent.npy": encode_npy(latent)}


def _std(records: list[dict[str, Any]]) -> float:
    """Return the standard deviation over all values of the training part.

    Raises:
        DataError: the latents are constant.
    """
    count = sum(record["count"] for record in records)
    mean = sum(record["sum"] for record in records) / max(1, count)
    variance = sum(record["squares"] for record in records) / max(1, count) - mean**2
    if not variance > 1e-12:
        raise DataError("the latents of the training part are constant; train the autoencoder first")
    return math.sqrt(variance)


def encoder_of(module: Any, device: str) -> Encode:
    """Return ``encode`` over a torch autoencoder whose ``encode`` takes images in [-1, 1], (n, 3, p, p) float32."""
    import torch

    module = module.to(device, memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def encode(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return module.encode(pixels).float().cpu().numpy()

    return encode
