"""Which timesteps are visited."""

import pytest

from zoomldm.diffusion.solvers.timesteps import even, leading
from zoomldm.errors import ConfigError


@pytest.mark.parametrize("num_steps", [1, 7, 50, 999, 1000])
def test_leading_timesteps_are_ascending_and_in_range(num_steps):
    timesteps = leading(num_steps, 1000)
    assert (timesteps.diff() > 0).all()
    assert timesteps[0] == 1
    assert timesteps[-1] <= 999
    assert len(timesteps) == min(num_steps, 999)


@pytest.mark.parametrize("num_steps", [2, 3, 200, 1000])
def test_even_timesteps_reach_both_ends(num_steps):
    timesteps = even(num_steps, 1000)
    assert (timesteps[0], timesteps[-1], len(timesteps)) == (0, 999, num_steps)
    assert timesteps.diff().max() - timesteps.diff().min() <= 1


@pytest.mark.parametrize(("choose", "num_steps"), [(leading, 0), (leading, 1001), (even, 1), (even, 1001)])
def test_impossible_numbers_of_steps_are_refused(choose, num_steps):
    with pytest.raises(ConfigError, match="num_steps"):
        choose(num_steps, 1000)
