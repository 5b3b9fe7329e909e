"""ZoomLDM: keyed draws, guidance, conditions that matter or do not."""

import pytest
import torch
from torch import nn

from tests.helpers.options import make_conditioner, make_prediction, make_schedule, make_solver
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.diffusion.solvers.ddpm import DDPM
from zoomldm.diffusion.solvers.dpmpp import DPMSolverPP
from zoomldm.errors import WeightsError
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.sampling.settings import Sampling

SIZES = {"resolution": 16, "token_dim": 8}
SHAPE = (3, 4, 4)


class TinyUNet(nn.Module):
    """Stand in for the U-Net: the noise is a linear function of x, t and the mean token."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        self.attend = nn.Linear(8, 3)
        self.num_calls = 0

    def forward(self, x, t, encoder_hidden_states):
        self.num_calls += 1
        out = self.mix(x) * (1 + t[:, None, None, None] / 1000)
        out = out + self.attend(encoder_hidden_states.mean(1))[:, :, None, None]
        return type("Output", (), {"sample": out})


def build(name, **more):
    torch.manual_seed(0)
    cond = {
        "film": lambda: make_conditioner("film", num_rungs=3, grid_dim=5, widths=(4, 4, 4, 8), **SIZES),
        "mag": lambda: make_conditioner("mag", num_rungs=3, **SIZES),
        "none": lambda: make_conditioner("none", **SIZES),
    }[name]()
    return ZoomLDM(
        cond,
        TinyUNet(),
        latent_shape=SHAPE,
        latent_scale=0.5,
        schedule=make_schedule(),
        prediction=make_prediction(),
        **more,
    )


def make_batch(num_samples=6, first=100):
    generator = torch.Generator().manual_seed(1)
    rung = torch.arange(num_samples) % 3
    groups = []
    for k in range(3):
        index = torch.where(rung == k)[0]
        groups.append(GridGroup(index, torch.randn(len(index), 2**k, 2**k, 5, generator=generator).half()))
    return Batch(
        sample_number=first + torch.arange(num_samples),
        rung=rung,
        latent=torch.randn(num_samples, *SHAPE, generator=generator).half(),
        grids=groups,
    )


@pytest.mark.parametrize("name", ["film", "mag", "none"])
def test_loss_is_differentiable_in_everything_that_is_trained(name):
    model, batch = build(name), make_batch(32)
    loss = model(batch, seed=0)["loss_per_sample"]
    assert loss.shape == (32,)
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert all(p.grad is not None for _, p in model.trained_parameters())
    assert model.columns == (("latent", "grid") if name == "film" else ("latent",))


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    model, batch = build("film").eval(), make_batch()
    whole = model(batch, seed=0)["loss_per_sample"]
    part = model(batch.select(torch.tensor([4, 1])), seed=0)["loss_per_sample"]
    assert torch.allclose(part, whole[[4, 1]], atol=1e-6)
    assert not torch.allclose(model(batch, seed=1)["loss_per_sample"], whole)


def test_the_loss_is_the_error_of_the_noise_in_scaled_latents():
    model, batch = build("none"), make_batch()
    seen = {}

    def predict(x, t, tokens, told=None):
        x0 = 0.5 * batch.latent.float()
        seen["t"] = t
        return model.schedule.eps_from_x0(x, x0, t)

    model.predict = predict
    assert model(batch, seed=0)["loss_per_sample"].max() < 1e-4
    assert seen["t"].unique().numel() > 3


def test_conditions_are_dropped_to_null_tokens_with_their_probability():
    model, batch = build("mag", drop_probability=0.25), make_batch(4000)
    seen = {}
    model.predict = lambda x, t, tokens, told: seen.setdefault("tokens", tokens).mean() * x
    model(batch, seed=0)
    is_null = (seen["tokens"] == model.conditioner.null).all(-1).all(-1)
    assert is_null.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(seen["tokens"][~is_null], model.conditioner.tokens[batch.rung[~is_null]])
    seen.clear()
    model.eval()(batch, seed=0)
    assert torch.equal(seen["tokens"], model.conditioner.tokens[batch.rung])  # validation drops none


def test_none_never_drops_and_ignores_grid_and_rung():
    model, batch = build("none", drop_probability=0.9), make_batch()
    assert model.drop_probability == 0
    other = Batch(sample_number=batch.sample_number, rung=(batch.rung + 1) % 3, latent=batch.latent)
    assert torch.equal(model(batch, seed=0)["loss_per_sample"], model(other, seed=0)["loss_per_sample"])


OPTIONS = {"seed": 7, "solver": make_solver(), "num_steps": 5, "guidance_scale": 1.75}


def draw(model, batch, **options):
    tokens = model.tokens(batch.grids, batch.rung)
    return model.sample(tokens, batch.sample_number, **(OPTIONS | options))


@pytest.mark.parametrize("solver", [make_solver(), make_solver("ddim", eta=1.0), DDPM(), DPMSolverPP()], ids=repr)
def test_samples_do_not_depend_on_their_batch(solver):
    model, batch = build("film").eval(), make_batch()
    whole = draw(model, batch, solver=solver)
    assert whole.shape == (6, *SHAPE)
    assert torch.allclose(draw(model, batch.select(torch.tensor([5, 0])), solver=solver), whole[[5, 0]], atol=1e-4)
    assert torch.equal(draw(model, batch, solver=solver), whole)


@pytest.mark.parametrize(("scale", "tokens_of"), [(1, "condition"), (0, "null")])
def test_scales_1_and_0_are_plain_conditional_and_unconditional_sampling(scale, tokens_of):
    model, batch = build("film").eval(), make_batch()
    tokens = model.tokens(batch.grids, batch.rung) if tokens_of == "condition" else model.conditioner.null_tokens(6)
    model.unet.num_calls = 0
    out = draw(model, batch, guidance_scale=scale)
    assert model.unet.num_calls == 5
    assert torch.equal(out, model.sample(tokens, batch.sample_number, **(OPTIONS | {"guidance_scale": 1})))


def test_guidance_is_one_pass_a_step_and_changes_samples():
    model, batch = build("film").eval(), make_batch()
    model.unet.num_calls = 0
    guided = draw(model, batch, guidance_scale=1.75)
    assert model.unet.num_calls == 5
    assert not torch.allclose(guided, draw(model, batch, guidance_scale=1))


def test_guidance_in_an_interval_lies_between_none_and_all():
    model, batch = build("film").eval(), make_batch()
    everywhere, nowhere = draw(model, batch), draw(model, batch, guidance_scale=1)
    assert torch.equal(draw(model, batch, guidance_interval=(0, 1)), everywhere)
    assert torch.equal(draw(model, batch, guidance_interval=(0.999, 1)), nowhere)
    inside = draw(model, batch, guidance_interval=(0.2, 0.7))
    assert not torch.allclose(inside, everywhere)
    assert not torch.allclose(inside, nowhere)


@pytest.mark.parametrize("name", ["film", "none"])
@pytest.mark.parametrize("interval", [None, (0.2, 0.7), (0.999, 1.0)])
def test_what_a_patch_costs_is_what_the_network_is_asked(name, interval):
    model, batch, asked = build(name).eval(), make_batch(), []
    predict = model.predict
    model.predict = lambda x, t, tokens: (asked.append(len(x)), predict(x, t, tokens))[1]
    how = Sampling(solver=make_solver(), steps=5, guidance_scale=(1.0, 1.75, 3.0), guidance_interval=interval)
    generator, tokens = PatchGenerator(model, torch.nn.Identity(), sampling=how), model.tokens(batch.grids, batch.rung)
    for rung in range(3):
        asked.clear()
        model.sample(tokens, batch.sample_number, **how.options(7, rung))
        assert sum(asked) == len(batch) * generator.passes(rung)


def test_none_is_not_guided():
    model, batch = build("none"), make_batch()
    assert torch.equal(draw(model, batch, guidance_scale=9), draw(model, batch, guidance_scale=1))


def test_samples_are_unscaled():
    model, batch = build("none"), make_batch()
    out = draw(model, batch)
    model.latent_scale = 1.0
    assert torch.allclose(draw(model, batch), 0.5 * out)


def test_extra_state_carries_the_scale_and_refuses_another_shape():
    model, other = build("film"), build("film")
    other.latent_scale = 3.0
    model.load_extra_state(other.extra_state())
    assert model.latent_scale == 3.0
    with pytest.raises(WeightsError, match="token_dim is 99"):
        model.load_extra_state({**other.extra_state(), "token_dim": 99})


def test_weight_decay_is_for_matrices_alone():
    decayed, plain = build("film").param_groups()
    assert min(p.ndim for p in decayed["params"]) == 2
    assert plain["weight_decay"] == 0
    assert len(decayed["params"]) + len(plain["params"]) == len(list(build("film").parameters()))


def test_null_tokens_that_no_sample_sees_are_not_trained():
    """Otherwise several processes wait for a gradient that never comes."""
    never, now_and_then = build("film", drop_probability=0.0), build("film", drop_probability=0.1)
    assert "conditioner.null" not in dict(never.trained_parameters())
    assert "conditioner.null" in dict(now_and_then.trained_parameters())
    assert "conditioner.null" in dict(build("none", drop_probability=0.0).trained_parameters())  # its tokens are these
