"""Shards of made-up contents at the real sizes, for the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from zoomldm.data.manifest import EncoderInfo, Manifest, ShardInfo
from zoomldm.data.schema import encode_grid, encode_npy, make_key
from zoomldm.data.shards import column_path, write_column
from zoomldm.files import progress
from zoomldm.ladder import Ladder

SHARDS_A_RUNG = 4
TISSUE_CELLS = {1: 1.0, 2: 0.8, 4: 0.7, 8: 0.6, 16: 0.5, 32: 0.4, 64: 0.35}
"""Part of a grid's cells that are tissue, by grid side; larger grids have 0.3 (design: a slide is 30 % tissue)."""


def make_shards(
    root: Path,
    samples: Mapping[int, int],
    *,
    ladder: Ladder,
    dim: int,
    latent_shape: tuple[int, int, int],
    splits: tuple[str, ...] = ("train",),
) -> Manifest:
    """Write latent and grid columns; samples: number by rung. Data that are there already are used again."""
    described = {
        "image": {"format": "png"},
        "grid": {},
        "meta": {},
        "latent": {"shape": list(latent_shape), "scale": 1.0, "std": 1.0, "autoencoder_sha256": "0" * 64},
    }
    config = {"samples": {str(k): n for k, n in samples.items()}, "dim": dim, "latent_shape": list(latent_shape)}
    if (root / "manifest.json").is_file():
        found = Manifest.load(root)
        if found.config == config:
            return found
    shards, counts = [], {}
    total = sum(samples.values()) * len(splits)
    with progress(total=total, label="writing shards", unit="sample") as bar:
        for split in splits:
            counts[split] = {ladder[k].label: n for k, n in samples.items()}
            for k, number in samples.items():
                for nth in range(SHARDS_A_RUNG):
                    path = f"shards/{split}/{ladder[k].label}/{nth:05d}"
                    count = number * (nth + 1) // SHARDS_A_RUNG - number * nth // SHARDS_A_RUNG
                    if count == 0:
                        continue
                    columns = {}
                    for column in ("latent", "grid"):
                        tar = column_path(root / path, column)
                        tar.parent.mkdir(parents=True, exist_ok=True)
                        made = _column(column, ladder[k].grid_side, count, nth, dim, latent_shape)
                        write_column(tar, made)
                        columns[column] = {"bytes": tar.stat().st_size, "sha256": ""}
                    shards.append(
                        ShardInfo(
                            split=split,
                            magnification=ladder[k].magnification,
                            path=path,
                            num_samples=count,
                            columns=columns,
                        )
                    )
                    bar.update(count)
    manifest = Manifest(
        name="synthetic",
        ladder=ladder,
        encoder=EncoderInfo(name="synthetic", dim=dim, weights_sha256=None, input_px=ladder.patch_px, mpp=0.5),
        columns={name: described[name] for name in ("latent", "grid")},
        shards=shards,
        counts=counts,
        patients={split: ["p"] for split in splits},
        config=config,
    )
    manifest.save(root)
    return manifest


def _column(
    column: str, side: int, count: int, nth: int, dim: int, latent_shape: tuple[int, int, int]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    rng = np.random.default_rng([side, nth, column == "grid"])
    for i in range(count):
        key = make_key(f"slide{nth}", side, i * side, 0)
        if column == "latent":
            yield key, {"latent.npy": encode_npy(rng.standard_normal(latent_shape, np.float32).astype(np.float16))}
        else:
            num_rows = 1 + max(1, round(TISSUE_CELLS.get(side, 0.3) * side * side))
            rows = rng.integers(0, 1 << 14, (num_rows, dim), np.uint16).view(np.float16)
            yield key, encode_grid(rng.integers(0, num_rows, (side, side)), rows)
