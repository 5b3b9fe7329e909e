import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.fold.area import Area, find_area
from data_prep.fold.regions import RegionSettings, corners, find_regions, stride_tiles, window_mean
from tests.helpers.settings import make_ladder

LADDER = make_ladder(patch_px=8, num_rungs=4)


def choose(fraction, *, min_tissue=0.5, stride=1.0, most=None, area=None, seed=0, ladder=LADDER):
    settings = RegionSettings(
        min_tissue=dict.fromkeys(ladder.labels, min_tissue),
        stride=dict.fromkeys(ladder.labels, stride),
        max_per_slide=dict.fromkeys(ladder.labels, most),
    )
    return find_regions(fraction, ladder, settings, slide="s", seed=seed, area=area)


def places(chosen):
    return set(zip(chosen.y.tolist(), chosen.x.tolist()))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_tissue_of_a_region_is_the_mean_of_its_tiles(height, width, seed):
    fraction = np.random.default_rng(seed).random((height, width), np.float32)
    y, x = np.array([0, height // 2, height - 1]), np.array([width - 1, 0, width // 2])
    for side in (1, 2, 8):
        padded = np.zeros((height + 8, width + 8))
        padded[:height, :width] = fraction
        brute = [padded[a : a + side, b : b + side].mean() for a, b in zip(y, x)]
        assert np.allclose(window_mean(fraction, y, x, side), brute)


@given(st.integers(1, 300), st.sampled_from([1, 4, 16]), st.sampled_from([1, 2, 4]))
def test_regions_cover_the_axis_and_none_begins_beyond_it(num_tiles, side, part):
    stride = max(1, side // part)
    starts = corners(num_tiles, side, stride)
    assert starts[0] == 0
    assert (starts < num_tiles).all()
    assert starts[-1] + side >= num_tiles
    assert len(starts) == 1 or starts[-2] + side < num_tiles


def test_only_regions_with_enough_tissue():
    fraction = np.zeros((8, 8), np.float32)
    fraction[:4, :4] = 1
    chosen = choose(fraction, min_tissue=0.25)
    assert [len(c) for c in chosen] == [16, 4, 1, 1]
    assert [len(c) for c in choose(fraction, min_tissue=0.26)] == [16, 4, 1, 0]
    assert [len(c) for c in choose(np.zeros((8, 8), np.float32), min_tissue=0.0)] == [0, 0, 0, 0]


def test_the_most_a_slide_is_a_seeded_part_and_nested():
    fraction = np.ones((20, 20), np.float32)
    few, more, other = (choose(fraction, most=n, seed=s)[0] for n, s in ((10, 0), (50, 0), (10, 1)))
    assert len(few) == 10
    assert places(few) < places(more)
    assert places(few) != places(other)
    assert places(few) == places(choose(fraction, most=10)[0])


def test_overlap_takes_a_shorter_step():
    side_by_side, overlapped = (choose(np.ones((16, 16), np.float32), stride=s)[3] for s in (1.0, 0.5))
    assert len(side_by_side) == 4
    assert len(overlapped) == 9
    assert places(side_by_side) < places(overlapped)


@given(st.sampled_from([8, 12, 32, 33, 256]), st.integers(1, 8), st.floats(0.001, 1))
def test_a_stride_is_whole_pixels_of_its_rung(patch_px, num_rungs, stride):
    ladder = make_ladder(patch_px=patch_px, num_rungs=num_rungs)
    for rung in ladder.rungs:
        tiles = stride_tiles(rung, stride, patch_px)
        assert 1 <= tiles <= rung.grid_side
        assert tiles * patch_px % rung.grid_side == 0


@given(st.integers(2, 60), st.integers(2, 60), st.floats(0.05, 0.8), st.integers(0, 9))
def test_no_region_of_test_overlaps_one_of_train(height, width, test_fraction, seed):
    fraction = np.random.default_rng(seed).random((height, width), np.float32)
    area = find_area(fraction, LADDER, test_fraction)
    marks = {"train": np.zeros((height + 8, width + 8), bool), "test": np.zeros((height + 8, width + 8), bool)}
    for chosen in choose(fraction, min_tissue=0.2, stride=0.5, area=area):
        side = chosen.rung.grid_side
        for y, x in places(chosen):
            marks[area.split_of(y, x, side)][y : y + side, x : x + side] = True
    assert not (marks["train"] & marks["test"]).any()


def test_the_cut_follows_the_tissue_and_leaves_room_for_large_regions():
    fraction = np.ones((40, 30), np.float32)
    assert find_area(fraction, LADDER, 0.25) == Area(axis=0, cut=30)
    assert find_area(fraction, LADDER, 0.05) == Area(axis=0, cut=32)  # 8 tiles for the largest region
    assert find_area(fraction.T, LADDER, 0.25).axis == 1
    heavy = np.concatenate([np.zeros((20, 30), np.float32), fraction])
    assert find_area(heavy, LADDER, 0.5).cut == pytest.approx(40, abs=1)


def test_the_most_a_slide_counts_within_each_area():
    fraction = np.ones((20, 10), np.float32)
    area = find_area(fraction, LADDER, 0.4)
    chosen = choose(fraction, most=5, area=area)[0]
    splits = [area.split_of(y, x, 1) for y, x in places(chosen)]
    assert sorted(splits) == ["test"] * 5 + ["train"] * 5
