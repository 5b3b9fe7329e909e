import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.slides.resample import area_average, area_resample, area_span


def test_area_average_of_an_integer_ratio_is_the_box_mean():
    values = np.random.default_rng(0).integers(0, 256, (12, 5)).astype(np.uint8)
    assert np.allclose(area_average(values, 0, 4, 3.0, 0), values.reshape(4, 3, 5).mean(1), atol=1e-4)


@given(st.floats(1.1, 3.7), st.integers(0, 20))
def test_area_average_keeps_a_ramp_straight_wherever_it_starts(ratio, start):
    """The mean of a linear function over an interval is its value at the middle."""
    size = int(np.ceil(40 * ratio)) + 2
    first, last = area_span(start, start + 8, ratio, size)
    ramp = np.arange(first, last, dtype=np.float64)[:, None] + 0.5
    middle = (np.arange(start, start + 8) + 0.5) * ratio
    edge_free = area_average(ramp, start, start + 8, ratio, first)[:, 0]
    expected = np.array(
        [np.mean(np.floor(np.linspace(m - ratio / 2, m + ratio / 2, 20001)[:-1] + 1e-12) + 0.5) for m in middle]
    )
    assert np.allclose(edge_free, expected, atol=2e-3)


def test_area_resample_does_not_depend_on_where_it_is_cut():
    pixels = np.random.default_rng(1).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    ratio = (1.515, 1.515)
    whole = area_resample(pixels, (0, 40), (0, 30), ratio, (0, 0))
    x, y = (13, 29), (7, 22)
    left, right = area_span(*x, ratio[0], 70)
    top, bottom = area_span(*y, ratio[1], 60)
    part = area_resample(pixels[top:bottom, left:right], x, y, ratio, (left, top))
    assert np.array_equal(part, whole[7:22, 13:29])
