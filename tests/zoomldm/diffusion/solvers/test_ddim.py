"""DDIM: the original's vectors and diffusers' scheduler."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from tests.helpers.diffusers_solvers import follow
from tests.helpers.options import make_prediction, make_schedule, make_solver
from zoomldm.diffusion.guidance import guided
from zoomldm.diffusion.solvers.ddim import DDIM

GOLDEN = Path(__file__).parents[3] / "golden"


def test_guided_ddim_gives_what_the_original_code_gives():
    golden = np.load(GOLDEN / "ddim_50_cfg.npz")
    schedule = make_schedule()
    assert np.abs(schedule.alphas_cumprod.numpy() - golden["alphas_cumprod"]).max() < 1e-7
    assert make_solver().timesteps(50, 1000).tolist() == golden["timesteps"].tolist()

    def predict(x, t, condition):
        return (1 - schedule.alpha_bar(t, x)).sqrt() * x + 0.2 * condition[:, None, None, None] * torch.tanh(x)

    i = np.arange(1, 2 * 3 * 16 * 16 + 1, dtype=np.float64)
    wave = np.sin(i * 12.9898 + 1000) * 43758.5453
    x_T = torch.from_numpy((wave - np.floor(wave) - 0.5) * 12**0.5).float().reshape(2, 3, 16, 16)
    predict_guided = guided(predict, torch.tensor([1, -0.5]), torch.zeros(2), 1.75)
    out = make_solver().solve(predict_guided, x_T, schedule, num_steps=50, prediction=make_prediction())
    assert np.abs(out.numpy() - golden["out"]).max() < 2e-5


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("last_alpha_bar", [None, 1.0])
def test_diffusers_gives_the_same(eta, last_alpha_bar):
    schedule = make_schedule()
    theirs = DDIMScheduler(
        **schedule.diffusers_arguments(),
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=last_alpha_bar is not None,
        timestep_spacing="leading",
    )
    ours, expected = follow(
        make_solver("ddim", eta=eta, last_alpha_bar=last_alpha_bar), theirs, schedule, num_steps=20, eta=eta
    )
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)


def test_the_last_signal_level_is_that_of_timestep_0():
    schedule, x0 = make_schedule(), torch.ones(1, 3)
    x_T = schedule.add_noise(x0, torch.ones(1, 3), torch.tensor([1]))
    out = make_solver().solve(lambda x, t: torch.ones(1, 3), x_T, schedule, num_steps=1, prediction=make_prediction())
    assert torch.allclose(out, schedule.add_noise(x0, torch.ones(1, 3), torch.tensor([0])), atol=1e-6)


def test_the_official_condition_models_way():
    solver = make_solver("ddim_even")
    out = solver.solve(
        lambda x, t: x / 2,
        torch.ones(1, 3),
        make_schedule("squared_cosine"),
        num_steps=5,
        prediction=make_prediction("x0"),
    )
    assert out.isfinite().all()
    assert torch.equal(out, out[:, :1].expand(1, 3))


@pytest.mark.parametrize("wrong", [{"eta": -0.1}, {"eta": 1.1}, {"spacing": "odd"}, {"last_alpha_bar": 0.0}])
def test_arguments_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DDIM(**{"eta": 0.0, "spacing": "leading", "last_alpha_bar": None} | wrong)
