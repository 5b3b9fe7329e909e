"""Distances see the pixels as they were before JPEG, where the data set kept them."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.toy_data import make_toy_data
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import encode_image, is_reference
from zoomldm.data.shards import ShardReader, column_path, write_column
from zoomldm.errors import DataError
from zoomldm.sampling.conditions import ShardPatches

FRACTIONS = {"20x": 0.5, "10x": 1.0, "5x": 0.0}


def with_references(root: Path, *, patch_px: int = 8) -> Manifest:
    """Add the column ``reference`` to toy data; its pixels are a number that the key gives."""
    manifest, sizes = make_toy_data(root), {}
    for shard in manifest.shards:
        reader = ShardReader(root, shard.path, ["meta"])
        fraction = FRACTIONS[manifest.ladder.rung_of(shard.magnification).label]
        keys = [key for key in (reader.key(i) for i in range(len(reader))) if is_reference(key, fraction)]
        samples = [(key, {"png": encode_image(np.full((patch_px, patch_px, 3), grey(key), np.uint8))}) for key in keys]
        if fraction:
            tar = column_path(root / shard.path, "reference")
            sizes[shard.path] = {"bytes": 0, "sha256": "", "num_samples": write_column(tar, samples)}
    manifest = manifest.with_column("reference", {"format": "png", "fraction": FRACTIONS}, sizes)
    manifest.save(root)
    return manifest


def grey(key: str) -> int:
    return sum(key.encode()) % 251


def read(source: ShardPatches, magnification: float, num: int, **changes):
    wanted = {"split": "train", "skip": 0, "seed": 0, "columns": ("image", "grid", "meta"), "batch_size": 7} | changes
    return list(source.batches(magnification=magnification, num=num, lossless=True, **wanted))


def test_a_part_of_the_samples_has_lossless_pixels(tmp_path):
    source = ShardPatches(with_references(tmp_path))
    assert 0 < source.num_lossless("train", 20) < source.count("train", 20)
    assert source.num_lossless("train", 10) == source.count("train", 10)
    assert source.num_lossless("train", 5) == 0


def test_each_has_its_own_pixels_grid_and_meta(tmp_path):
    source = ShardPatches(with_references(tmp_path))
    num = source.num_lossless("train", 20)
    batches = read(source, 20, num)
    keys = [key for batch in batches for key in batch.keys]
    assert len(set(keys)) == num
    assert all(is_reference(key, 0.5) for key in keys)
    for batch in batches:
        assert [int(image.unique()) for image in batch.image] == [grey(key) for key in batch.keys]
        assert batch.grids is not None
    again = [int(image.unique()) for batch in read(source, 20, num, columns=("image",)) for image in batch.image]
    assert again == [grey(key) for key in keys]


def test_excluded_patients_are_left_out(tmp_path):
    with_references(tmp_path)
    (tmp_path / "exclude.txt").write_text("p0train\n")
    source = ShardPatches(Manifest.load(tmp_path))
    assert source.num_lossless("train", 10) == 10
    assert {meta.patient for batch in read(source, 10, 10) for meta in batch.meta} == {"p1train"}


def test_a_reference_of_another_size_is_refused(tmp_path):
    source = ShardPatches(with_references(tmp_path, patch_px=4))
    with pytest.raises(DataError, match="a reference of 4×4 px, patches are 8×8 px"):
        read(source, 10, 3)
