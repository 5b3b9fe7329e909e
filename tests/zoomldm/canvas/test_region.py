"""A region and what its U-Net is told of the level above, by a model that only remembers what it was asked."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from zoomldm.canvas.region import Region, RegionSampler
from zoomldm.canvas.settings import Agreement, LevelSettings
from zoomldm.config import option_of
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.model.parent import planes
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.generator import Sampling

UNHELD = Agreement(start=1, until=1, reach=1, final=0)


class Model:
    """Says that the clean latent is nothing, and keeps what it was told."""

    latent_shape, latent_scale = (3, 8, 8), 1.0
    schedule = option_of("schedule", "scaled_linear").make(NoiseSchedule)
    prediction = option_of("prediction", "x0").make(Prediction)
    conditioner = SimpleNamespace(position=None, null_tokens=lambda num: torch.zeros(num, 16, 5))

    def __init__(self, told_planes):
        self.told_planes, self.told = told_planes, []

    def predict(self, x, t, tokens, told=None):
        self.told.append(told)
        return torch.zeros_like(x)


class Halves:
    """An autoencoder whose latents are the image at a quarter of its size."""

    def encode(self, images):
        return functional.avg_pool2d(images, 4)

    def decode(self, latents):
        return functional.interpolate(latents, scale_factor=4)


def drawn(model, parent, guidance_scale=1.0, overlap=1.0):
    solver = option_of("solver", "ddim").make(Solver)
    sampling = Sampling(solver=solver, steps=2, guidance_scale=guidance_scale, guidance_interval=None)
    options = {"overlap": overlap, "seed": 0, "batch_size": 64, "compute": Compute()}
    sampler = RegionSampler(model, Halves(), **options)
    tokens = torch.randn(2, 3, 16, 5, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(6).reshape(2, 3)
    region = Region(parent=parent, tokens=tokens, numbers=numbers, needed=torch.ones(2, 3, dtype=bool))
    return sampler.draw(region, LevelSettings(sampling=sampling, agreement=UNHELD))


@pytest.fixture
def parent():
    return torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_every_window_is_told_the_part_of_the_level_above_that_it_lies_under(parent):
    model = Model(told_planes=13)
    assert drawn(model, parent).shape == (64, 96, 3)
    over = planes(parent[None], (16, 24))[0]
    for part in (over[:, 8:, 8:16], over[:, 4:12, 4:12]):  # a patch, and a window across four
        assert all(any(torch.equal(one, part) for one in told) for told in model.told)


def test_windows_across_patches_are_drawn_in_the_last_steps_alone(parent):
    model = Model(told_planes=13)
    drawn(model, parent, overlap=0.3)  # the steps are at 501 and 1
    first, last = map(len, model.told)
    assert first == 6 < last


def test_with_guidance_the_level_above_is_known_on_both_sides(parent):
    model = Model(told_planes=13)
    drawn(model, parent, guidance_scale=2.0)
    for told in model.told:
        without, with_tokens = told.chunk(2)
        assert torch.equal(without, with_tokens)


def test_roots_and_models_that_cannot_be_told_are_told_nothing(parent):
    root, plain = Model(told_planes=13), Model(told_planes=0)
    drawn(root, None)
    drawn(plain, parent)
    assert all(told is None for told in root.told + plain.told)
