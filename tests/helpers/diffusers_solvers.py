"""A toy network and a way through it, by one of our solvers and by a scheduler of diffusers, with the same noise."""

import torch
from torch import Tensor

from tests.helpers.options import make_prediction, make_schedule
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver

SHAPE = (2, 3, 8, 8)
_SCHEDULE = make_schedule()


def drift(x: Tensor, t: Tensor) -> Tensor:
    """Predict noise as for data about two points, smoothly in x and t."""
    alpha_bar = _SCHEDULE.alpha_bar(t, x)
    return (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * torch.tanh(2 * x))


def fresh(step: int) -> Tensor:
    """Draw the noise of a step."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(step))


def follow(solver: Solver, scheduler, schedule: NoiseSchedule, *, num_steps: int, **options) -> tuple[Tensor, Tensor]:
    """Return what the solver and the scheduler make of the same start, the same network and the same noise."""
    x_T = fresh(99)
    ours = solver.solve(drift, x_T, schedule, num_steps=num_steps, prediction=make_prediction(), noise=fresh)
    scheduler.set_timesteps(num_steps)
    assert scheduler.timesteps.tolist() == solver.timesteps(num_steps, schedule.num_timesteps).flip(0).tolist()
    x = x_T
    for step, t in enumerate(scheduler.timesteps):
        generator = torch.Generator().manual_seed(step)
        takes = {"generator": generator} if options or "DDPM" in type(scheduler).__name__ else {}
        x = scheduler.step(drift(x, t.expand(len(x))), t, x, **takes, **options).prev_sample
    return ours, x
