"""Halves of the real patches are disjoint, random, repeatable, and come from the shards."""

import numpy as np

from tests.helpers.toy_data import make_toy_data
from zoomldm.sampling.conditions import ShardPatches, random_order


def keys(source: ShardPatches, **changes) -> list[str]:
    wanted = {"split": "train", "magnification": 20, "num": 20, "seed": 0, "batch_size": 7} | changes
    return [key for batch in source.batches(columns=("image", "meta"), **wanted) for key in batch.keys]


def test_halves_are_disjoint_and_cover_everything(tmp_path):
    source = ShardPatches(make_toy_data(tmp_path))
    first, second = keys(source), keys(source, skip=20)
    assert len(first) == len(second) == 20
    assert len({*first, *second}) == 40 == source.count("train", 20)


def test_order_depends_on_seed_and_not_on_batches(tmp_path):
    source = ShardPatches(make_toy_data(tmp_path))
    assert keys(source) == keys(source, batch_size=3)
    assert keys(source) != keys(source, seed=1)
    assert keys(source) != sorted(keys(source))


def test_excluded_patients_do_not_appear(tmp_path):
    manifest = make_toy_data(tmp_path)
    (tmp_path / "exclude.txt").write_text("p0train\n")
    source = ShardPatches(manifest)
    assert source.count("train", 20) == 20
    batches = source.batches(split="train", magnification=20, num=20, seed=0, columns=("meta",), batch_size=8)
    assert {meta.patient for batch in batches for meta in batch.meta} == {"p1train"}


def test_a_magnification_that_is_not_there_counts_zero(tmp_path):
    source = ShardPatches(make_toy_data(tmp_path, test=(8, 0, 8)))
    assert source.count("test", 10) == 0


def test_random_order_is_a_permutation():
    assert sorted(random_order(37, np.arange(37), "a")) == list(range(37))
