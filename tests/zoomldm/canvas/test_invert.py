"""Tokens by inversion: the image gets likelier under them, and what is not seen of it does not matter."""

import numpy as np
import pytest
import torch

from zoomldm.canvas.given import filled
from zoomldm.canvas.invert import Inverter, TokenFinder
from zoomldm.canvas.plan import levels_of
from zoomldm.canvas.settings import Inversion
from zoomldm.sampling.compute import Compute
from zoomldm.stages.packed import PackedModel

RUNG = 4


@pytest.fixture(scope="module")
def models():
    return PackedModel(name="reference", folder=None).load("", wants_edm=True)


def inverter(models, **changed):
    settings = Inversion(**({"steps": 6, "rate": 0.1, "draws": 1, "prior": 0.03} | changed))
    return Inverter(models.model.module, models.edm.module, settings=settings, seed=0, compute=Compute())


def test_the_image_gets_likelier_and_the_model_stays_as_it_was(models):
    found, model = inverter(models, prior=0.0, steps=12), models.model.module
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = [p.requires_grad for p in model.parameters()]
    latents, numbers = torch.randn(2, *model.latent_shape), torch.arange(2)
    tokens = found.tokens(latents, RUNG, numbers)
    x0, weight, rungs = latents * model.latent_scale, torch.ones(2, 1, 1, 1), torch.full((2,), RUNG)
    begun, ended = (
        torch.stack([found._loss(x0, one, weight, numbers, f"test {k}") for k in range(24)]).mean()
        for one in (found._mean(rungs, numbers), models.edm.module.standardise(tokens))
    )
    assert ended < 0.95 * begun
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == trained
    assert all(p.grad is None for p in model.parameters())


def test_what_is_not_seen_does_not_matter_and_what_is_seen_does(models):
    finder = TokenFinder(autoencoder=models.autoencoder.module, inverter=inverter(models, steps=2))
    ladder = models.manifest.ladder
    (level,) = levels_of(ladder, root=ladder[RUNG], target=ladder[RUNG], rows=1, columns=1)
    patch, seen = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8), np.ones((1, 32, 32), bool)
    seen[:, :, 16:] = False
    other = patch.copy()
    other[:, :, 16:] = 7
    tokens = [finder.of_pixels(one, seen, level) for one in (patch, other)]
    np.testing.assert_array_equal(*tokens)
    assert np.abs(finder.of_pixels(patch, np.ones_like(seen), level) - tokens[0]).max() > 1e-3


def test_a_strong_prior_holds_tokens_near_what_the_edm_expects(models):
    latents, numbers = 3 * torch.randn(2, *models.model.module.latent_shape), torch.arange(2)
    mean = inverter(models)._mean(torch.full((2,), RUNG), numbers)
    away = [
        (models.edm.module.standardise(inverter(models, prior=prior).tokens(latents, RUNG, numbers)) - mean).std()
        for prior in (0.0, 1000.0)
    ]
    assert away[1] < away[0]


def test_the_unseen_is_filled_with_the_mean_of_the_seen():
    patch, seen = np.zeros((1, 4, 4, 3), np.uint8), np.ones((1, 4, 4), bool)
    patch[:, :2], seen[:, 2:] = 100, False
    patch[:, 0] = 50
    assert (filled(patch, seen)[:, 2:] == 75).all()
