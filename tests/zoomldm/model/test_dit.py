"""The official condition model behind the interface of the EDM; its numbers are in tests/test_golden.py."""

from __future__ import annotations

import torch

from tests.helpers.options import make_conditioner, make_prediction, make_schedule, make_solver
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.model.dit import DiT, sin_cos_positions
from zoomldm.model.edm import EDMTrainable

OFFICIAL = make_solver("ddim_even")


def small_dit() -> DiT:
    torch.manual_seed(0)
    diffusion = {"schedule": make_schedule("squared_cosine"), "prediction": make_prediction("x0")}
    return DiT(num_rungs=4, num_tokens=16, token_dim=8, width=32, depth=2, heads=4, **diffusion)


def test_official_timesteps() -> None:
    steps = OFFICIAL.timesteps(200, 1000)
    assert (int(steps[0]), int(steps[-1]), len(steps)) == (0, 999, 200)
    assert set(steps.diff().tolist()) == {5, 6}
    assert OFFICIAL.timesteps(1000, 1000).tolist() == list(range(1000))


def test_positions_are_sines_then_cosines() -> None:
    table = sin_cos_positions(3, 8)
    assert torch.equal(table[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    torch.testing.assert_close(table[2, 0], torch.tensor(2.0).sin())


def test_untrained_model_is_the_identity_of_its_blocks() -> None:
    dit = small_dit()
    h, condition = torch.randn(2, 16, 32), torch.randn(2, 32)
    assert torch.equal(dit.blocks[0](h, condition), h)


def test_null_rung_adds_nothing() -> None:
    dit = small_dit()
    torch.nn.init.normal_(dit.final_layer.linear.weight)
    torch.nn.init.normal_(dit.final_layer.adaLN_modulation[1].weight)
    x, t = torch.randn(1, 16, 8), torch.tensor([500])
    null, first = dit.predict(x, t, torch.tensor([dit.null_rung])), dit.predict(x, t, torch.tensor([0]))
    assert not torch.allclose(null, first)
    with torch.no_grad():
        dit.y_embedder.embedding_table.weight.zero_()
    torch.testing.assert_close(dit.predict(x, t, torch.tensor([0])), null)


def test_samples_are_keyed_by_their_number() -> None:
    dit = small_dit()
    torch.nn.init.normal_(dit.final_layer.linear.weight, std=0.1)
    rung, numbers = torch.tensor([0, 1, 2]), torch.tensor([7, 8, 9])
    options = {"seed": 1, "solver": OFFICIAL, "num_steps": 4, "guidance_scale": 1.0}
    all_three = dit.sample(rung, numbers, **options)
    one = dit.sample(rung[1:2], numbers[1:2], **options)
    torch.testing.assert_close(all_three[1:2], one, atol=1e-5, rtol=1e-5)
    assert all_three.shape == (3, 16, 8)


def test_it_trains_where_the_edm_does() -> None:
    dit = small_dit()
    conditioner = make_conditioner("pool", grid_dim=6, resolution=64, token_dim=8)
    trainable = EDMTrainable(dit, conditioner, drop_probability=0.5)
    batch = Batch(
        sample_number=torch.arange(8),
        rung=torch.arange(8) % 4,
        grids=[GridGroup(torch.arange(8), torch.randn(8, 4, 4, 6).half())],
    )
    trainable.fit_statistics([batch])
    loss = trainable(batch, 0)["loss_per_sample"]
    assert loss.shape == (8,)
    loss.mean().backward()
    grads = [p.grad for p in dit.final_layer.linear.parameters()]
    assert all(g is not None and g.abs().sum() > 0 for g in grads)
    assert torch.equal(grads[0][8:], torch.zeros_like(grads[0][8:]))  # the half for the variance is not trained
