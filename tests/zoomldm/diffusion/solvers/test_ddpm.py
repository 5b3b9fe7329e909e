"""DDPM: diffusers' scheduler, and DDIM with the variance of ancestral sampling."""

import pytest
import torch
from diffusers import DDPMScheduler

from tests.helpers.diffusers_solvers import drift, follow, fresh
from zoomldm.diffusion.schedules.linear import Linear
from zoomldm.diffusion.schedules.scaled_linear import ScaledLinear
from zoomldm.diffusion.solvers.ddim import DDIM
from zoomldm.diffusion.solvers.ddpm import DDPM


@pytest.mark.parametrize("num_steps", [10, 60])
def test_diffusers_gives_the_same(num_steps):
    schedule = Linear()
    theirs = DDPMScheduler(**schedule.diffusers_arguments(), clip_sample=False, timestep_spacing="linspace")
    ours, expected = follow(DDPM(), theirs, schedule, num_steps=num_steps)
    torch.testing.assert_close(ours, expected, atol=5e-5, rtol=1e-4)


def test_it_is_ddim_with_all_of_the_noise():
    x_T, schedule = fresh(99), ScaledLinear()
    options = {"num_steps": 12, "noise": fresh}
    ancestral = DDPM().solve(drift, x_T, schedule, **options)
    ddim = DDIM(eta=1.0, spacing="even", last_alpha_bar=1.0).solve(drift, x_T, schedule, **options)
    torch.testing.assert_close(ancestral, ddim, atol=1e-4, rtol=1e-4)
