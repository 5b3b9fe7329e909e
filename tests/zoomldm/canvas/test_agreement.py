"""Agreement with the level above, in latents and in pixels."""

import pytest
import torch
from torch.nn import functional

from zoomldm.canvas.agreement import corrected, enlarge, in_pixels, lacking


def averages(image):
    return functional.avg_pool2d(image, 2)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return 0.3 * torch.randn(3, 32, 32, generator=generator), 0.3 * torch.randn(3, 16, 16, generator=generator)


def test_pixels_agree_after_some_corrections_and_detail_stays(images):
    image, parent = images
    better = in_pixels(image, parent, reach=1, times=8)
    before, after = (float((averages(one) - parent).abs().mean()) for one in (image, better))
    assert after < 0.1 * before
    detail = image - functional.interpolate(averages(image)[None], scale_factor=2)[0]
    kept = better - functional.interpolate(averages(better)[None], scale_factor=2)[0]
    assert functional.cosine_similarity(detail.flatten(), kept.flatten(), dim=0) > 0.9


def test_a_reach_of_two_holds_the_average_and_leaves_the_parents_detail(images):
    image, parent = images
    better = in_pixels(image, parent, reach=2, times=8)
    coarse = averages(averages(better)) - averages(parent)
    assert coarse.abs().mean() < 0.2 * (averages(averages(image)) - averages(parent)).abs().mean()
    assert (averages(better) - parent).abs().mean() > 0.5 * (averages(image) - parent).abs().mean()


def test_latents_take_over_the_correction_and_not_the_autoencoders_error(images):
    image, parent = images

    def encode(picture):
        return averages(picture)

    def decode(latents):
        return functional.interpolate(latents[None], scale_factor=2)[0] + 0.5  # an autoencoder that is off by 0.5

    latents, coders = averages(image), {"encode": encode, "decode": decode}
    better = corrected(latents, lambda image: lacking(image, decode(latents)[:, ::2, ::2], 1), **coders)
    assert torch.allclose(better, latents, atol=1e-6)  # agrees already, so that nothing is corrected
    better = corrected(latents, lambda image: lacking(image, parent, 1), **coders)
    error = averages(decode(better)) - parent
    assert error.abs().mean() < 0.5 * (averages(decode(latents)) - parent).abs().mean()


def test_enlarging_keeps_the_range(images):
    bigger = enlarge(4 * images[1])
    assert bigger.shape == (3, 32, 32)
    assert bigger.abs().max() <= 1
