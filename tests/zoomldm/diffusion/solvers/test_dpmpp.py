"""DPM-Solver++ (2M): diffusers' scheduler, DDIM in its first order, and how fast it converges."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from tests.helpers.diffusers_solvers import drift, follow, fresh
from tests.helpers.options import make_prediction, make_schedule
from zoomldm.diffusion.solvers.ddim import DDIM
from zoomldm.diffusion.solvers.dpmpp import DPMSolverPP


@pytest.mark.parametrize("schedule", [make_schedule(), make_schedule("squared_cosine")])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 20, 40])
def test_diffusers_gives_the_same(num_steps, schedule):
    theirs = DPMSolverMultistepScheduler(
        **schedule.diffusers_arguments(),
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="linspace",
        final_sigmas_type="zero",
    )
    ours, expected = follow(DPMSolverPP(), theirs, schedule, num_steps=num_steps)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


class SameTimesteps(DDIM):
    def __init__(self):
        super().__init__(eta=0.0, spacing="even", last_alpha_bar=1.0)

    def timesteps(self, num_steps, num_timesteps):
        return DPMSolverPP().timesteps(num_steps, num_timesteps)


def test_two_steps_are_of_first_order_which_is_ddim():
    x_T, schedule = fresh(99), make_schedule()
    ddim = SameTimesteps().solve(drift, x_T, schedule, num_steps=2, prediction=make_prediction())
    torch.testing.assert_close(
        DPMSolverPP().solve(drift, x_T, schedule, num_steps=2, prediction=make_prediction()), ddim, atol=1e-4, rtol=1e-4
    )


def test_it_comes_nearer_than_ddim_in_as_many_steps():
    x_T, schedule = fresh(99), make_schedule()
    exact = SameTimesteps().solve(drift, x_T, schedule, num_steps=998, prediction=make_prediction())
    errors = [
        (solver.solve(drift, x_T, schedule, num_steps=15, prediction=make_prediction()) - exact).abs().mean()
        for solver in (DPMSolverPP(), SameTimesteps())
    ]
    assert errors[0] < 0.5 * errors[1]
