"""DDIM: the original's vectors, and recovery of x0 by a perfect prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zoomldm.diffusion.guidance import guided
from zoomldm.diffusion.schedules.base import linear, scaled_linear
from zoomldm.diffusion.solvers.ddim import ddim, ddim_timesteps

GOLDEN = Path(__file__).parents[3] / "golden"


def test_guided_ddim_gives_what_the_original_code_gives():
    golden = np.load(GOLDEN / "ddim_50_cfg.npz")
    schedule = scaled_linear()
    assert np.abs(schedule.alphas_cumprod.numpy() - golden["alphas_cumprod"]).max() < 1e-7
    timesteps = ddim_timesteps(50)
    assert timesteps.tolist() == golden["timesteps"].tolist()

    def predict(x, t, condition):
        return (1 - schedule.alpha_bar(t, x)).sqrt() * x + 0.2 * condition[:, None, None, None] * torch.tanh(x)

    i = np.arange(1, 2 * 3 * 16 * 16 + 1, dtype=np.float64)
    wave = np.sin(i * 12.9898 + 1000) * 43758.5453
    x_T = torch.from_numpy((wave - np.floor(wave) - 0.5) * 12**0.5).float().reshape(2, 3, 16, 16)
    out = ddim(guided(predict, torch.tensor([1, -0.5]), torch.zeros(2), 1.75), x_T, schedule, timesteps)
    assert np.abs(out.numpy() - golden["out"]).max() < 2e-5


@pytest.mark.parametrize("predicts", ["eps", "x0"])
@pytest.mark.parametrize("schedule", [scaled_linear(), linear()])
def test_a_perfect_prediction_recovers_x0(predicts, schedule):
    x0, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = ddim_timesteps(50)
    x_T = schedule.add_noise(x0, noise, timesteps[-1].expand(4))
    truth = {"eps": lambda x, t: schedule.eps_from_x0(x, x0, t), "x0": lambda x, t: x0}[predicts]
    out = ddim(truth, x_T, schedule, timesteps, predicts=predicts, last_alpha_bar=1.0)
    assert torch.allclose(out, x0, atol=2e-3)


def test_one_prediction_a_step_from_the_last_timestep_to_the_first():
    seen = []

    def predict(x, t):
        seen.append(t.tolist())
        return torch.zeros_like(x)

    ddim(predict, torch.randn(2, 3), scaled_linear(), ddim_timesteps(4))
    assert seen == [[751, 751], [501, 501], [251, 251], [1, 1]]


def test_the_last_signal_level_is_that_of_timestep_0():
    schedule, x0 = scaled_linear(), torch.ones(1, 3)
    x_T = schedule.add_noise(x0, torch.ones(1, 3), torch.tensor([1]))
    out = ddim(lambda x, t: torch.ones(1, 3), x_T, schedule, torch.tensor([1]))
    assert torch.allclose(out, schedule.add_noise(x0, torch.ones(1, 3), torch.tensor([0])), atol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 7, 50, 999, 1000])
def test_timesteps_are_ascending_and_in_range(num_steps):
    timesteps = ddim_timesteps(num_steps)
    assert (timesteps.diff() > 0).all()
    assert timesteps[0] == 1
    assert timesteps[-1] <= 999
    assert len(timesteps) == min(num_steps, 999)


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(num_steps):
    with pytest.raises(ValueError, match="num_steps"):
        ddim_timesteps(num_steps)
