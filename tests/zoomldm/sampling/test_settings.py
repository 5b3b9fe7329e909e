"""How a model is sampled: guidance by magnification and in an interval, as it is said and as it is kept."""

import pytest

from tests.helpers.settings import make_ladder
from zoomldm.errors import ConfigError
from zoomldm.sampling.settings import Sampling, interval_of, scales_of

LADDER = make_ladder(num_rungs=3)


def way(scale=1.75, interval=None):
    return Sampling(solver="DDIM()", steps=20, guidance_scale=scale, guidance_interval=interval)


@pytest.mark.parametrize(
    ("said", "scales"),
    [
        (2, 2.0),
        ({"default": 1.5, 10: 3}, (1.5, 3.0, 1.5)),
        ({"20x": 1, "10": 2, 5.0: 3}, (1.0, 2.0, 3.0)),
        ({"default": 1.5, 10: 1.5}, 1.5),
    ],
)
def test_guidance_is_a_number_or_one_a_rung(said, scales):
    found = scales_of(said, LADDER)
    assert found == scales
    assert type(found) is type(scales)
    wanted = scales if isinstance(scales, tuple) else [scales] * 3
    assert [way(found).options(0, rung)["guidance_scale"] for rung in range(3)] == list(wanted)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (0, "guidance_scale=0: expected a number above 0"),
        ("abc", "guidance_scale=abc: expected"),
        (float("nan"), "guidance_scale=nan"),
        ({"default": 1, 10: -2}, r"guidance_scale\.10x=-2: expected"),
        ({"default": 1, 7: 2}, "guidance_scale: magnification=7: not on this ladder"),
        ({10: 2}, "guidance_scale: nothing for 20x, 5x"),
    ],
)
def test_senseless_guidance_is_refused_with_its_key(said, message):
    with pytest.raises(ConfigError, match=message):
        scales_of(said, LADDER)


@pytest.mark.parametrize("said", [[0.2], [0.8, 0.2], [0.5, 0.5], [-0.1, 1], [0, 1.1], [0, 0.5, 1], ["a", "b"]])
def test_an_interval_is_two_parts_of_the_noise(said):
    assert interval_of([0, 1]) == (0.0, 1.0)
    assert interval_of(None) is None
    with pytest.raises(ConfigError, match=r"guidance_interval=.*the smaller first"):
        interval_of(said)


def test_what_was_kept_before_there_was_an_interval_is_found_again():
    assert way().facts() == {"solver": "'DDIM()'", "sampling steps": 20, "guidance scale": 1.75}
    assert repr(way()) == "Sampling(solver='DDIM()', steps=20, guidance_scale=1.75)"


def test_every_way_is_kept_as_another():
    ways = [way(), way(2.0), way((1.0, 2.0, 3.0)), way((1.0, 2.0, 2.0)), way(1.75, (0.2, 0.8)), way(1.75, (0.0, 0.8))]
    assert len({repr(one) for one in ways}) == len({str(one.facts()) for one in ways}) == len(ways)
    assert way((1.0, 2.0, 3.0)).facts()["guidance scale"] == [1.0, 2.0, 3.0]
    assert way((1.0, 2.0, 3.0)).facts(1)["guidance scale"] == 2.0
