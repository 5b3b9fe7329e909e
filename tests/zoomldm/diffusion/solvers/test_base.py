"""Laws of every solver."""

import pytest
import torch
import yaml

from tests.helpers.options import make_prediction, make_schedule, make_solver
from zoomldm.cli import CONF
from zoomldm.config import Option
from zoomldm.diffusion.noise import keyed_normal
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.diffusion.solvers.ddpm import DDPM
from zoomldm.diffusion.solvers.dpmpp import DPMSolverPP
from zoomldm.errors import ConfigError

SOLVERS = [make_solver(), make_solver("ddim", eta=0.7), make_solver("ddim_even"), DDPM(), DPMSolverPP()]
STOCHASTIC = [make_solver("ddim", eta=0.7), DDPM()]


def noise_of(numbers):
    return lambda step: keyed_normal(0, numbers, (3, 8, 8), stream=f"step {step}")


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
@pytest.mark.parametrize("schedule", [make_schedule(), make_schedule("linear"), make_schedule("zero_terminal")])
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_perfect_prediction_recovers_x0(solver, schedule, predicts):
    if schedule.ends_in_noise and predicts == "eps":
        pytest.skip("refused: noise says nothing of the signal where there is none")
    x0, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    last = solver.timesteps(50, 1000)[-1]
    prediction = make_prediction(predicts)
    out = solver.solve(
        lambda x, t: prediction.target(schedule, x0, schedule.eps_from_x0(x, x0, t), t),
        schedule.add_noise(x0, noise, last.expand(4)),
        schedule,
        num_steps=50,
        prediction=prediction,
        noise=noise_of(torch.arange(4)),
    )
    left = (1 - schedule.alphas_cumprod[0]).sqrt() if getattr(solver, "last_alpha_bar", 1.0) is None else 0
    assert (out - x0).abs().max() < 5 * left + 5e-3


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_one_prediction_a_step_from_noise_to_signal(solver):
    seen = []

    def predict(x, t):
        seen.append(t.tolist())
        return torch.zeros_like(x)

    solver.solve(
        predict,
        torch.randn(2, 3, 8, 8),
        make_schedule(),
        num_steps=4,
        prediction=make_prediction(),
        noise=noise_of(torch.arange(2)),
    )
    expected = solver.timesteps(4, 1000).flip(0).tolist()
    assert seen == [[t, t] for t in expected]
    assert len(expected) == 4


@pytest.mark.parametrize("solver", STOCHASTIC, ids=repr)
def test_fresh_noise_belongs_to_the_sample(solver):
    def draw(numbers):
        x = keyed_normal(1, numbers, (3, 8, 8))
        return solver.solve(
            lambda x, t: 0.3 * x, x, make_schedule(), num_steps=6, prediction=make_prediction(), noise=noise_of(numbers)
        )

    whole = draw(torch.tensor([5, 9, 2]))
    assert torch.allclose(draw(torch.tensor([9])), whole[1:2], atol=1e-5)
    with pytest.raises(ValueError, match="fresh noise"):
        solver.solve(lambda x, t: x, torch.randn(1, 3), make_schedule(), num_steps=4, prediction=make_prediction())


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "solver").glob("*.yaml")])
def test_options_are_made(name):
    solver = make_solver(name)
    expected = {"ddim": "DDIM(eta=0.0, spacing='leading', last_alpha_bar=None)"}
    expected["ddim_even"] = "DDIM(eta=0.0, spacing='even', last_alpha_bar=1.0)"
    assert repr(solver) == expected.get(name, f"{type(solver).__name__}()")


def test_an_argument_without_effect_is_refused():
    section = yaml.safe_load((CONF / "solver" / "dpmpp.yaml").read_text())
    with pytest.raises(ConfigError, match=r"solver\.eta: DPMSolverPP takes no such argument"):
        Option("solver", section | {"eta": 0.5}).make(Solver)
    with pytest.raises(ConfigError, match="solver=ddim: eta must lie between 0 and 1, got 2"):
        make_solver("ddim", eta=2)
