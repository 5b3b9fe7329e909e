"""A tiny data set of shards with made-up contents, for tests of whatever reads shards."""

from pathlib import Path

import numpy as np

from tests.helpers.settings import make_ladder
from zoomldm.data.manifest import EncoderInfo, Manifest, ShardInfo
from zoomldm.data.schema import SampleMeta, encode_grid, encode_image, encode_npy, make_key
from zoomldm.data.shards import column_path, write_column
from zoomldm.files import sha256_of
from zoomldm.ladder import Ladder

COLUMNS = ("image", "grid", "meta", "latent")


def toy_sample(
    ladder: Ladder, rung: int, index: int, split: str, dim: int, latent_px: int
) -> dict[str, dict[str, bytes]]:
    """Return the columns of one sample; every array is a function of (split, rung, index)."""
    rng = np.random.default_rng([rung, index, split == "test"])
    side = ladder[rung].grid_side
    rows = rng.standard_normal((1 + rng.integers(1, side * side + 1), dim)).astype(np.float16)
    slide = f"s{index % 4}.{split}"
    meta = SampleMeta(
        key=make_key(slide, side, index * 100, 0),
        magnification=ladder[rung].magnification,
        slide=slide,
        patient=f"p{index % 2}{split}",
        split=split,
        x_px0=index * 100,
        y_px0=0,
        region_px0=ladder[rung].region_px,
        mpp_nominal=ladder[rung].mpp,
        mpp_true=ladder[rung].mpp,
        tissue=0.5,
    )
    pixels = rng.integers(0, 256, (ladder.patch_px, ladder.patch_px, 3), dtype=np.uint8)
    return {
        "image": {"png": encode_image(pixels)},
        "grid": encode_grid(rng.integers(0, len(rows), (side, side)), rows),
        "meta": {"json": meta.encode()},
        "latent": {
            "latent.npy": encode_npy((rung + rng.standard_normal((3, latent_px, latent_px))).astype(np.float16))
        },
    }


def make_toy_data(
    root: Path,
    *,
    train: tuple[int, ...] = (40, 20, 8),
    test: tuple[int, ...] = (8, 8, 8),
    patch_px: int = 8,
    dim: int = 4,
    latent_px: int = 4,
    samples_a_shard: int = 16,
    columns: tuple[str, ...] = COLUMNS,
) -> Manifest:
    """Write shards and manifest under `root`; train and test give the samples of each magnification."""
    ladder = make_ladder(patch_px=patch_px, num_rungs=len(train))
    shards, counts = [], {}
    for split, numbers in (("train", train), ("test", test)):
        counts[split] = {ladder[k].label: n for k, n in enumerate(numbers)}
        for k, number in enumerate(numbers):
            for nth, start in enumerate(range(0, number, samples_a_shard)):
                path = f"shards/{split}/{ladder[k].label}/{nth:05d}"
                samples = [
                    toy_sample(ladder, k, i, split, dim, latent_px)
                    for i in range(start, min(number, start + samples_a_shard))
                ]
                keys = [SampleMeta.decode(sample["meta"]["json"]).key for sample in samples]
                sizes = {}
                for column in columns:
                    tar = column_path(root / path, column)
                    tar.parent.mkdir(parents=True, exist_ok=True)
                    write_column(tar, [(key, sample[column]) for key, sample in zip(keys, samples)])
                    sizes[column] = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
                info = {"split": split, "magnification": ladder[k].magnification, "path": path, "columns": sizes}
                shards.append(ShardInfo(num_samples=len(samples), **info))
    described = {"image": {"format": "png"}, "grid": {}, "meta": {}, "latent": {"shape": [3, latent_px, latent_px]}}
    described["latent"]["autoencoder_sha256"] = None
    manifest = Manifest(
        name="toy",
        ladder=ladder,
        encoder=EncoderInfo(name="stats", dim=dim, weights_sha256=None, input_px=patch_px, mpp=0.5),
        columns={column: described[column] for column in columns},
        shards=shards,
        counts=counts,
        patients={split: [f"p0{split}", f"p1{split}"] for split in ("train", "test")},
        slides=[{"slide": f"s{i}.{s}", "patient": f"p{i % 2}{s}"} for i in range(4) for s in ("train", "test")],
    )
    manifest.save(root)
    return manifest
