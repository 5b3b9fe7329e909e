import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.fold.sums import box_sums, halve_sums, round_sums


@given(st.integers(1, 17), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_box_sums_are_exact_for_every_factor(factor, height, width, seed):
    pixels = np.random.default_rng(seed).integers(250, 256, (height * factor, width * factor, 3), dtype=np.uint8)
    brute = pixels.reshape(height, factor, width, factor, 3).astype(np.int64).sum((1, 3))
    assert np.array_equal(box_sums(pixels, factor), brute)


def test_seven_halvings_of_white_do_not_overflow():
    sums, count = np.full((128, 128, 3), 255, np.uint8), 1
    for _ in range(7):
        sums, count = halve_sums(sums, count), count * 4
    assert sums.tolist() == [[[255 * 4**7] * 3]]
    assert round_sums(sums, count).tolist() == [[[255] * 3]]


@pytest.mark.parametrize("count", [4, 9])
def test_halves_are_rounded_up_once(count):
    sums = np.arange(255 * count + 1, dtype=np.uint32).reshape(-1, 1, 1)
    assert np.array_equal(round_sums(sums, count), np.floor(sums / count + 0.5).astype(np.uint8))


def test_box_sums_refuses_part_of_a_box():
    with pytest.raises(ValueError, match="whole boxes"):
        box_sums(np.zeros((5, 4, 3), np.uint8), 2)


def test_twelve_rungs_of_large_boxes_overflow_nowhere():
    for count in (9 * 4**11, 25 * 4**10, 4**16):
        halved = halve_sums(np.full((2, 2, 3), 255 * (count // 4), np.min_scalar_type(255 * (count // 4))), count // 4)
        assert halved.astype(object).max() == 255 * count
        assert (round_sums(halved, count) == 255).all()
