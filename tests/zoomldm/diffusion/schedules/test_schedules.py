"""Schedules: closed forms and inverses."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from tests.helpers.options import make_schedule
from zoomldm.config import CONF
from zoomldm.diffusion.schedules.base import NoiseSchedule


@pytest.mark.parametrize("schedule", [make_schedule(path.stem) for path in (CONF / "schedule").glob("*.yaml")])
def test_signal_level_is_the_product_of_what_each_step_keeps(schedule):
    kept = 1 - schedule.betas.double()
    assert torch.allclose(schedule.alphas_cumprod.double(), torch.cumprod(kept, 0), atol=1e-6)
    assert (schedule.alphas_cumprod.diff() < 0).all()
    assert schedule.num_timesteps == 1000


def test_ends_of_the_schedules():
    assert make_schedule().betas[[0, -1]].tolist() == pytest.approx([0.0015, 0.0195])
    assert make_schedule("linear").betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    middle = make_schedule("scaled_linear", num_timesteps=3).betas[1].item()
    assert middle == pytest.approx(((0.0015**0.5 + 0.0195**0.5) / 2) ** 2)


def test_squared_cosine_closed_form():
    level = make_schedule("squared_cosine", num_timesteps=100).alphas_cumprod
    expected = np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert level[49].item() == pytest.approx(expected, abs=1e-6)


def test_a_zero_terminal_schedule_ends_in_noise_alone():
    schedule, usual = make_schedule("zero_terminal"), make_schedule()
    signal, before = schedule.alphas_cumprod.sqrt(), usual.alphas_cumprod.sqrt()
    assert signal[-1] == 0
    assert signal[0].item() == pytest.approx(before[0].item())
    part = (before - before[-1]) / (before[0] - before[-1])  # the same way from the first to the last
    assert torch.allclose(signal, part * before[0], atol=1e-5)
    x0, noise = torch.randn(2, 1, 3)
    assert torch.equal(schedule.add_noise(x0, noise, torch.tensor([999])), noise)


def test_signal_and_noise_come_back():
    schedule, generator = make_schedule(), torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 3, 4, 4, generator=generator)
    t = torch.tensor([0, 10, 400, 800, 999])
    x = schedule.add_noise(x0, noise, t)
    assert torch.allclose(schedule.x0_from_eps(x, noise, t), x0, atol=1e-4)
    assert torch.allclose(schedule.eps_from_x0(x, x0, t), noise, atol=1e-4)


def test_noised_unit_variance_stays_unit_variance():
    schedule, generator = make_schedule("linear"), torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 40_000, generator=generator)
    x = schedule.add_noise(x0, noise, torch.tensor([1, 500, 999]))
    assert x.std(1).tolist() == pytest.approx([1] * 3, abs=0.02)


def test_betas_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        NoiseSchedule(np.array([0.1, 1.2]))


class Constant(NoiseSchedule):
    """A schedule that diffusers has no name for."""

    def __init__(self) -> None:
        super().__init__(np.full(10, 0.3))


@pytest.mark.parametrize(
    "schedule",
    [
        make_schedule(),
        make_schedule("linear", num_timesteps=50),
        make_schedule("squared_cosine"),
        make_schedule("zero_terminal"),
        Constant(),
    ],
)
def test_diffusers_has_the_same_betas(schedule):
    theirs = DDPMScheduler(**schedule.diffusers_arguments())
    assert theirs.config.num_train_timesteps == schedule.num_timesteps
    assert torch.allclose(theirs.alphas_cumprod, schedule.alphas_cumprod, rtol=1e-5, atol=1e-7)
