"""p(magnification | step) of every curriculum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.options import make_curriculum
from tests.helpers.settings import make_ladder
from zoomldm.config import CONF, option_of
from zoomldm.curriculum.base import Curriculum, steps_matched_by_samples
from zoomldm.curriculum.proportional import Proportional
from zoomldm.curriculum.schedule import Schedule
from zoomldm.curriculum.single import Single
from zoomldm.curriculum.tempered import Tempered
from zoomldm.curriculum.uniform import Uniform
from zoomldm.errors import ConfigError

COUNTS = np.array([1000, 300, 80, 20, 5, 0, 2, 1])
LADDER = make_ladder()
PARAMETERS = {
    "tempered": {"temperature": 0.5},
    "coarse_to_fine": {"steps": 100},
    "fine_to_coarse": {"steps": 100},
    "schedule": {"stages": [{"from_step": 0, "weights": {20: 1, 5: 3}}, {"from_step": 10, "weights": {0.15625: 1}}]},
}

OPTIONS = sorted(path.stem for path in (CONF / "curriculum").glob("*.yaml"))


def make(name, **changed):
    one = option_of("curriculum", name, **PARAMETERS.get(name, {}) | changed)
    return one.make(Curriculum, counts=COUNTS, ladder=LADDER)


@pytest.mark.parametrize("name", OPTIONS)
@given(step=st.integers(0, 1000))
def test_probabilities_sum_to_one_over_magnifications_with_samples(name, step):
    curriculum = make(name)
    p = curriculum.probabilities(step)
    assert p.dtype == np.float64
    assert p.sum() == pytest.approx(1.0)
    assert (p >= 0).all()
    assert p[5] == 0


@pytest.mark.parametrize("name", OPTIONS)
def test_probabilities_change_only_where_the_curriculum_says(name):
    curriculum = make(name)
    assert curriculum.changes[0] == 0
    p = np.stack([curriculum.probabilities(step) for step in range(200)])
    changed = {0} | {step for step in range(1, 200) if not np.array_equal(p[step], p[step - 1])}
    assert changed <= set(curriculum.changes)


def test_tempering_goes_from_uniform_to_proportional():
    ends = Tempered(COUNTS, temperature=0).probabilities(0), Tempered(COUNTS, temperature=1).probabilities(0)
    assert np.array_equal(ends[0], Uniform(COUNTS).probabilities(0))
    assert np.array_equal(ends[1], Proportional(COUNTS).probabilities(0))
    assert ends[1] == pytest.approx(COUNTS / COUNTS.sum())


def test_coarse_to_fine_begins_at_low_magnifications_and_ends_uniform():
    curriculum = make_curriculum("coarse_to_fine", np.ones(8), steps=100, fraction=0.5, tilt=4.0)
    first = curriculum.probabilities(0)
    assert (np.diff(first) > 0).all()
    assert first[-1] / first[0] == pytest.approx(np.exp(4.0))
    finest = [curriculum.probabilities(step)[0] for step in range(100)]
    assert (np.diff(finest) >= 0).all()
    assert curriculum.probabilities(50) == pytest.approx(np.full(8, 1 / 8))
    mirrored = make_curriculum("fine_to_coarse", np.ones(8), steps=100, fraction=0.5, tilt=4.0)
    assert mirrored.probabilities(20) == pytest.approx(curriculum.probabilities(20)[::-1])


def test_a_schedule_is_what_the_user_wrote():
    schedule = Schedule(COUNTS, ladder=LADDER, stages=PARAMETERS["schedule"]["stages"])
    assert schedule.probabilities(9) == pytest.approx([0.25, 0, 0.75, 0, 0, 0, 0, 0])
    assert schedule.probabilities(10) == pytest.approx([0, 0, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ([], "empty"),
        ([{"from_step": 5, "weights": {20: 1}}], "0 first"),
        ([{"from_step": 0, "weights": {20: 1}}, {"from_step": 0, "weights": {20: 1}}], "rising"),
        ([{"from_step": 0, "weights": {7: 1}}], "not on this ladder"),
        ([{"from_step": 0, "weights": {20: -1}}], "0 or more"),
        ([{"from_step": 0, "weights": {0.625: 1}}], "weight 0"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(stages, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Schedule(COUNTS, ladder=LADDER, stages=stages)


def test_single_is_one_magnification():
    assert Single(COUNTS, ladder=LADDER, magnification=5).probabilities(77).tolist() == np.eye(8)[2].tolist()
    with pytest.raises(ConfigError, match=r"0\.625.*no training sample.*20, 10, 5"):
        Single(COUNTS, ladder=LADDER, magnification=0.625)
    with pytest.raises(ConfigError):
        Single(COUNTS, ladder=LADDER, magnification=7)


def test_expected_samples_add_up_over_the_stages():
    curriculum = make_curriculum("coarse_to_fine", COUNTS, steps=100)
    expected = sum(curriculum.probabilities(step) for step in range(73)) * 16
    assert curriculum.samples_until(73, 16) == pytest.approx(expected)
    assert curriculum.samples_until(0, 16).sum() == 0


def test_a_single_run_can_see_as_many_samples_of_its_magnification_as_a_unified_one():
    assert steps_matched_by_samples(Uniform(COUNTS), 700, rung=2) == 100
    assert steps_matched_by_samples(Proportional(COUNTS), 700, rung=7) == 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"temprature.*did you mean 'temperature'"):
        make("tempered", temprature=1)
    with pytest.raises(ConfigError, match=r"curriculum\.temperature=2"):
        make("tempered", temperature=2)
    with pytest.raises(ConfigError, match="no magnification"):
        Uniform([0, 0])
