"""DDPM: diffusers' scheduler, and DDIM with the variance of ancestral sampling."""

import pytest
import torch
from diffusers import DDPMScheduler

from tests.helpers.diffusers_solvers import drift, follow, fresh
from tests.helpers.options import make_prediction, make_schedule, make_solver
from zoomldm.diffusion.solvers.ddpm import DDPM


@pytest.mark.parametrize("num_steps", [10, 60])
def test_diffusers_gives_the_same(num_steps):
    schedule = make_schedule("linear")
    theirs = DDPMScheduler(**schedule.diffusers_arguments(), clip_sample=False, timestep_spacing="linspace")
    ours, expected = follow(DDPM(), theirs, schedule, num_steps=num_steps)
    torch.testing.assert_close(ours, expected, atol=5e-5, rtol=1e-4)


def test_it_is_ddim_with_all_of_the_noise():
    x_T, schedule = fresh(99), make_schedule()
    options = {"prediction": make_prediction(), "num_steps": 12, "noise": fresh}
    ancestral = DDPM().solve(drift, x_T, schedule, **options)
    ddim = make_solver("ddim", eta=1.0, spacing="even", last_alpha_bar=1.0).solve(drift, x_T, schedule, **options)
    torch.testing.assert_close(ancestral, ddim, atol=1e-4, rtol=1e-4)
