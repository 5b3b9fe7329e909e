"""The magnification ladder: round trips between magnification, mpp and pixels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.settings import make_ladder
from zoomldm.errors import ConfigError
from zoomldm.ladder import label


def test_the_papers_ladder():
    ladder = make_ladder()
    assert ladder.labels == ("20x", "10x", "5x", "2.5x", "1.25x", "0.625x", "0.3125x", "0.15625x")
    assert ladder[7].grid_side == 128
    assert ladder[7].region_px == 128 * 256
    assert ladder[2].region_px == 1024  # paper, section 3.2: a 5x patch is paired with a 1024 px region
    assert ladder[7].mpp == 64.0


@given(st.integers(1, 12), st.integers(8, 4096), st.floats(0.1, 2.0), st.sampled_from([10.0, 20.0, 40.0]))
def test_magnification_finds_its_rung(num_rungs, patch_px, base_mpp, base_magnification):
    ladder = make_ladder(patch_px, num_rungs, base_magnification, base_mpp)
    for rung in ladder.rungs:
        assert ladder.rung_of(rung.magnification) is rung
        assert ladder.rung_of(rung.label) is rung
        assert rung.magnification * rung.mpp == pytest.approx(base_magnification * base_mpp)
        assert rung.region_px == rung.grid_side * patch_px


@pytest.mark.parametrize("wrong", [4, "3x", "abc", 0, -20, float("nan")])
def test_a_magnification_off_the_ladder_is_refused_with_the_list(wrong):
    with pytest.raises(ConfigError, match=r"20, 10, 5, 2\.5, 1\.25"):
        make_ladder().rung_of(wrong)


@pytest.mark.parametrize("sizes", [{"patch_px": 0}, {"num_rungs": 0}, {"num_rungs": 40}, {"base_mpp": 0.0}])
def test_impossible_ladders_are_refused(sizes):
    with pytest.raises(ConfigError, match=next(iter(sizes))):
        make_ladder(**sizes)


def test_labels_have_no_trailing_zeros():
    assert label(20.0) == "20x"
    assert label(20 / 2**7) == "0.15625x"
