"""What a network may say of a noisy latent, against diffusers' conventions, and how its errors are weighed."""

import pytest
import torch
from diffusers import DDIMScheduler

from tests.helpers.options import make_prediction, make_schedule
from zoomldm.diffusion.losses import squared_error

X0, NOISE = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0, 10, 300, 800, 990])


@pytest.mark.parametrize("name", ["eps", "x0", "v"])
def test_it_means_what_diffusers_makes_of_it(name):
    prediction, schedule = make_prediction(name), make_schedule()
    arguments = schedule.diffusers_arguments() | {"clip_sample": False, "prediction_type": prediction.diffusers_name}
    scheduler = DDIMScheduler(**arguments)
    scheduler.set_timesteps(1000)
    x, said = schedule.add_noise(X0, NOISE, T), prediction.target(schedule, X0, NOISE, T)
    x0, eps = prediction.told(schedule, x, said, T)
    torch.testing.assert_close(eps, NOISE, atol=3e-2, rtol=1e-3)
    torch.testing.assert_close(x0, X0, atol=1e-2, rtol=1e-3)
    for row, t in enumerate(T):
        theirs = scheduler.step(said[row], t, x[row]).pred_original_sample
        torch.testing.assert_close(x0[row], theirs, atol=1e-3, rtol=1e-3)


def test_velocity_is_that_of_diffusers():
    schedule = make_schedule()
    theirs = DDIMScheduler(**schedule.diffusers_arguments()).get_velocity(X0, NOISE, T)
    torch.testing.assert_close(make_prediction("v").target(schedule, X0, NOISE, T), theirs)


@pytest.mark.parametrize("name", ["eps", "x0", "v"])
def test_min_snr_weighs_the_error_of_x0(name):
    prediction, schedule = make_prediction(name, min_snr_gamma=5.0), make_schedule()
    x = schedule.add_noise(X0, NOISE, T)
    said = prediction.target(schedule, X0, NOISE, T) + 0.1 * torch.randn(5, 3, 8, 8)
    alpha_bar = schedule.alphas_cumprod[T]
    error = squared_error(prediction.told(schedule, x, said, T)[0], X0)
    expected = error * (alpha_bar / (1 - alpha_bar)).clamp(max=5)
    torch.testing.assert_close(prediction.loss(schedule, said, X0, NOISE, T), expected, rtol=2e-2, atol=1e-5)
    plain = make_prediction(name).loss(schedule, said, X0, NOISE, T)
    assert torch.equal(plain, squared_error(said, prediction.target(schedule, X0, NOISE, T)))


def test_very_noisy_samples_keep_a_least_weight():
    schedule = make_schedule()
    said = make_prediction("v").target(schedule, X0, NOISE, T) + 0.1 * torch.randn(5, 3, 8, 8)
    plain, limited, floored = (
        make_prediction("v", **settings).loss(schedule, said, X0, NOISE, T)
        for settings in ({}, {"min_snr_gamma": 5.0}, {"min_snr_gamma": 5.0, "snr_floor": 0.25})
    )
    snr = schedule.alphas_cumprod[T] / (1 - schedule.alphas_cumprod[T])
    assert 0 < (snr < 0.25).sum() < len(T)
    torch.testing.assert_close(floored, plain * snr.clamp(0.25, 5) / (snr + 1))
    assert torch.equal(floored[snr >= 0.25], limited[snr >= 0.25])
    assert (floored[snr < 0.25] > limited[snr < 0.25]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_snr_gamma": -1}, "min_snr_gamma must be null or above 0, got -1"),
        ({"snr_floor": 0.25}, "snr_floor=0.25: expected null, or 0 to min_snr_gamma, which is None"),
        ({"min_snr_gamma": 5, "snr_floor": 6}, "snr_floor=6: expected null, or 0 to min_snr_gamma, which is 5"),
    ],
)
def test_a_weighting_without_sense_is_refused(settings, message):
    with pytest.raises(Exception, match=message):
        make_prediction("v", **settings)
