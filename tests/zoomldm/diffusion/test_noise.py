"""Keyed draws: a pure function of seed, stream and sample number, with the right distributions."""

import pytest
import torch

from zoomldm.diffusion.noise import keyed_dropout, keyed_normal, keyed_timesteps, keyed_uniform

NUMBERS = torch.tensor([0, 1, 5, 5, 10**12, 2**40 + 3])
TIMESTEPS = [118, 549, 514, 71]
NORMALS = [0.141623, 0.371818, 1.331919]


@pytest.mark.parametrize(
    "draw",
    [
        lambda numbers: keyed_normal(3, numbers, (3, 5, 5)),
        lambda numbers: keyed_uniform(3, numbers, (7,), stream="a"),
        lambda numbers: keyed_timesteps(3, numbers, 1000),
    ],
)
def test_a_sample_draws_the_same_in_any_batch(draw):
    whole = draw(NUMBERS)
    assert torch.equal(whole[[4, 2]], draw(NUMBERS[[4, 2]]))
    assert torch.equal(torch.cat([draw(number[None]) for number in NUMBERS]), whole)
    assert torch.equal(whole[2], whole[3])


def test_seed_stream_and_number_each_change_the_draw():
    numbers = torch.arange(4)
    draws = [
        keyed_normal(0, numbers, (64,)),
        keyed_normal(1, numbers, (64,)),
        keyed_normal(0, numbers, (64,), stream="other"),
        keyed_normal(0, numbers + 1, (64,)),
    ]
    rows = torch.stack(draws)[:, 0]
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 0.5


def test_draws_do_not_change_between_versions():
    assert keyed_timesteps(0, torch.arange(4), 1000).tolist() == TIMESTEPS
    assert keyed_normal(0, torch.arange(1), (3,))[0].tolist() == pytest.approx(NORMALS, abs=1e-6)


def test_normal_has_the_moments_of_a_normal():
    draws = keyed_normal(1, torch.arange(3000), (3, 8, 8))
    assert draws.mean().abs() < 0.005
    assert draws.std().item() == pytest.approx(1, abs=0.005)
    assert draws.pow(3).mean().abs() < 0.02
    assert draws.pow(4).mean().item() == pytest.approx(3, abs=0.05)
    assert 4.5 < draws.abs().max() < 7


def test_neighbours_are_uncorrelated():
    draws = keyed_normal(1, torch.arange(3000), (64,))
    assert (draws[1:] * draws[:-1]).mean().abs() < 0.01
    assert (draws[:, 1:] * draws[:, :-1]).mean().abs() < 0.01
    assert (draws[:, :32] * draws[:, 32:]).mean().abs() < 0.015


def test_odd_sizes_are_filled():
    assert keyed_normal(0, torch.arange(2), (5,)).shape == (2, 5)
    assert keyed_normal(0, torch.arange(2), (1,)).shape == (2, 1)


def test_timesteps_cover_the_range_evenly():
    t = keyed_timesteps(0, torch.arange(20_000), 10)
    assert torch.bincount(t, minlength=10).float().div(20_000).sub(0.1).abs().max() < 0.01


def test_dropout_has_its_probability():
    numbers = torch.arange(20_000)
    assert keyed_dropout(0, numbers, 0.1).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not keyed_dropout(0, numbers, 0.0).any()
    assert keyed_dropout(0, numbers, 1.0).all()
