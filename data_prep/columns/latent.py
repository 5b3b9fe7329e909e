"""The latent column: every patch through an autoencoder once, as one more tar a shard; and the latents' scale.

Legend: n patches, p patch side, c h w latent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange

from data_prep.columns.record import ColumnRecord, Samples, read_record, write_recorded
from data_prep.pack.agreement import agree
from data_prep.pack.exchange import NEW, begin, copy_if_there, exchange, link_shard, shards_locked
from data_prep.pack.jobs import SHARDS
from data_prep.pack.plan_file import PLAN_NAME
from zoomldm.data.manifest import Manifest, ShardInfo
from zoomldm.data.schema import decode_image, encode_npy, fields_of
from zoomldm.data.shards import ShardReader, column_path
from zoomldm.encoder.base import padded
from zoomldm.errors import DataError, counted
from zoomldm.files import progress

if TYPE_CHECKING:
    from zoomldm.model.autoencoder import Autoencoder

Encode = Callable[[np.ndarray], np.ndarray]
"""Images (n, p, p, 3) uint8 to latents (n, c, h, w) float."""
COLUMN, VARIANTS = "latent", "variants"
MAX_BATCH = 128
PIXELS_AT_ONCE = {"cpu": 2**18, "cuda": 2**22}
"""Of a batch: VQ-f4 keeps some 4 kB for each (a batch of 128 patches of 256 px took more than 20 GB)."""


@dataclass(frozen=True, kw_only=True)
class LatentMaker:
    """An autoencoder and what identifies it.

    Attributes:
        source: its run, or the name of its file.
        is_original: published weights, whose latents are scaled by 1.0 (LDM's convention for the ImageNet VQ-f4);
            otherwise the scale is 1/std over the training part.
    """

    encode: Encode
    sha256: str
    source: str
    is_original: bool
    batch_size: int = MAX_BATCH


def batch_size_for(patch_px: int, device: str) -> int:
    """Return how many patches an autoencoder encodes at once: fewer of larger ones."""
    return max(1, min(MAX_BATCH, PIXELS_AT_ONCE[device] // patch_px**2))


def add_latents(manifest: Manifest, maker: LatentMaker, *, repack: bool = False) -> Manifest:
    """Write the latents of every shard that has none by this autoencoder, and the column's facts into the manifest.

    Latents are float16, before quantisation and unscaled. The manifest is read again once the shards are locked.

    Raises:
        ConfigError: there are latents by another autoencoder, and ``repack`` does not agree to make them anew.
        DataError: a shard is damaged, or the autoencoder gives numbers that float16 cannot hold.
        UserError: a full disk.
    """
    root = Path(manifest.root)
    with shards_locked(root):
        return _add_latents(root, Manifest.load(root), maker, repack=repack)


def _why_anew(maker: LatentMaker, facts: Mapping[str, Any] | None) -> str:
    before = facts.get("source") if facts else "another autoencoder"
    other = "trained otherwise than before" if before == maker.source else f"instead of {before}"
    return f"latents by {maker.source}, {other}"


def _add_latents(root: Path, manifest: Manifest, maker: LatentMaker, *, repack: bool) -> Manifest:
    facts = manifest.columns.get(COLUMN)
    if facts and facts["autoencoder_sha256"] == maker.sha256 and _all_there(manifest, maker):
        print(f"{root}: nothing to do, its latents were made by {maker.source}")
        return manifest
    folder = SHARDS
    others = _by_others(manifest, maker)
    if others and (not facts or facts["autoencoder_sha256"] != maker.sha256):
        folder = NEW
        agree(root, others, why=_why_anew(maker, facts), repack=repack)
        begin(root, {"latents": maker.sha256, "manifest": manifest.sha256})
        copy_if_there(root / SHARDS / PLAN_NAME, root / NEW / PLAN_NAME)
    manifest = manifest.without(COLUMN)
    records: dict[str, ColumnRecord] = {}
    made_by = {"autoencoder_sha256": maker.sha256}
    todo = {s.path: s.num_samples for s in manifest.shards if not read_record(_base(root, s, folder), COLUMN, made_by)}
    with progress(total=sum(todo.values()), label="latents", unit="patch") as bar:
        for shard in manifest.shards:
            records[shard.path] = _write_shard(root, shard, manifest.image_format, maker, folder)
            bar.update(todo.get(shard.path, 0))
    if manifest.columns.get(VARIANTS, {}).get("autoencoder_sha256") != maker.sha256:
        manifest = manifest.without(VARIANTS)
    shape, std = _shape(root, records), _std([records[s.path] for s in manifest.shards if s.split == "train"])
    facts = {
        "autoencoder_sha256": maker.sha256,
        "source": maker.source,
        "std": std,
        "scale": 1.0 if maker.is_original else 1.0 / std,
        "shape": list(shape),
    }
    manifest = manifest.with_column(COLUMN, facts, {path: record.tar for path, record in records.items()})
    if folder == NEW:
        manifest = exchange(root, manifest)
    else:
        manifest.save(root)
    total, there = sum(shard.num_samples for shard in manifest.shards), len(manifest.shards) - len(todo)
    kept = f", {sum(todo.values()):,} of them new; {counted(there, 'tar')} stayed" if there else ""
    print(f"{root}: {total:,} latents {shape} by {maker.source}, std {std:.4f} on train{kept}")
    return manifest


def encoder_of(module: "Autoencoder", device: str) -> Encode:
    """Return ``encode`` over a torch autoencoder whose ``encode`` takes images in [-1, 1], (n, 3, p, p) float32."""
    import torch

    from zoomldm.data.pixels import to_float

    module = module.to(device, memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def encode(images: np.ndarray) -> np.ndarray:
        pixels = to_float(rearrange(torch.from_numpy(images).to(device), "n h w c -> n c h w"))
        return module.encode(pixels).float().cpu().numpy()

    return encode


def _all_there(manifest: Manifest, maker: LatentMaker) -> bool:
    """Say whether every shard has its latents and their record, which ``verify.py repair=true`` takes away."""
    made_by = {"autoencoder_sha256": maker.sha256}
    return all(
        COLUMN in shard.columns and read_record(Path(manifest.root) / shard.path, COLUMN, made_by)
        for shard in manifest.shards
    )


def _by_others(manifest: Manifest, maker: LatentMaker) -> list[Path]:
    """Return the tars of latents that another autoencoder made, and of their turned variants."""
    made_by = {"autoencoder_sha256": maker.sha256}
    tars = []
    for shard in manifest.shards:
        base = Path(manifest.root) / shard.path
        if not read_record(base, COLUMN, made_by):
            tars += [tar for column in (COLUMN, VARIANTS) if (tar := column_path(base, column)).is_file()]
    return tars


def _base(root: Path, shard: ShardInfo, folder: str) -> Path:
    return root / folder / shard.path.removeprefix(f"{SHARDS}/")


def _write_shard(root: Path, shard: ShardInfo, image_format: str, maker: LatentMaker, folder: str) -> ColumnRecord:
    """Write a shard's latents beside its columns; in another folder, where they replace others, all get a place."""
    base, made_by = _base(root, shard, folder), {"autoencoder_sha256": maker.sha256}
    if folder != SHARDS:
        old = root / shard.path
        link_shard(old, base, but=(COLUMN, VARIANTS))
        copy_if_there(Path(f"{old}.json"), Path(f"{base}.json"))
    if record := read_record(base, COLUMN, made_by):
        return record
    reader = ShardReader(root, shard.path, ["image"], image_format=image_format)
    found = {"count": 0, "sum": 0.0, "squares": 0.0, "shape": None}
    try:
        samples = _latents(reader, maker, fields_of("image", image_format)[0], shard.path, found)
        return write_recorded(base, COLUMN, made_by, samples, found)
    finally:
        reader.close()


def _latents(reader: ShardReader, maker: LatentMaker, extension: str, shard: str, found: dict[str, Any]) -> Samples:
    """Yield a shard's latents in order and add them up; batches have a constant shape, the last one padded."""
    for start in range(0, len(reader), maker.batch_size):
        numbers = list(range(start, min(start + maker.batch_size, len(reader))))
        images = np.stack([decode_image(reader.read(i)["image"][extension]) for i in numbers])
        with np.errstate(over="ignore"):  # said below
            latents = maker.encode(padded(images, maker.batch_size))[: len(numbers)].astype(np.float16)
        if not np.isfinite(latents).all():
            raise DataError(f"{shard}: the autoencoder gives numbers beyond float16; it is not trained, or damaged")
        wide = latents.astype(np.float64)
        found["count"] += wide.size
        found["sum"] += float(wide.sum())
        found["squares"] += float((wide**2).sum())
        found["shape"] = list(latents.shape[1:])
        for number, latent in zip(numbers, latents, strict=True):
            yield reader.key(number), {"latent.npy": encode_npy(latent)}


def _shape(root: Path, records: dict[str, ColumnRecord]) -> tuple[int, ...]:
    shapes = {tuple(record.found["shape"]) for record in records.values()}
    if len(shapes) != 1:
        raise DataError(
            f"{root}: latents of unequal shapes {sorted(shapes)}; delete shards/*/*/*.latent.* and run again"
        )
    return shapes.pop()


def _std(records: Sequence[ColumnRecord]) -> float:
    """Return the standard deviation over all values of the training part.

    Raises:
        DataError: the latents are constant.
    """
    count, total, squares = (sum(record.found[name] for record in records) for name in ("count", "sum", "squares"))
    mean = total / max(1, count)
    variance = squares / max(1, count) - mean**2
    if not variance > 1e-12:
        raise DataError("the latents of the training part are constant; train the autoencoder first")
    return math.sqrt(variance)
