"""Autoencoders without a codebook: latents that are drawn in training and their means in use."""

import pytest
import torch
from diffusers import AutoencoderKL

from tests.helpers.options import make_kl_training
from tests.helpers.tiny_autoencoder import build_kl, make_batch, smooth_images, stepped, trained
from zoomldm.data.pixels import to_float
from zoomldm.model.kl import LinearStartKL


@pytest.mark.parametrize(("mult", "side"), [((1, 2, 2), 4), ((1, 2), 8)])
def test_shapes_and_means_are_those_of_diffusers(mult, side):
    autoencoder = build_kl(mult=mult, latent_channels=5)
    images = torch.randn(2, 3, 16, 16)
    latents = autoencoder.encode(images)
    assert latents.shape == (2, *autoencoder.latent_shape(16)) == (2, 5, side, side)
    assert isinstance(autoencoder.kl, AutoencoderKL)
    posterior = autoencoder.kl.encode(images).latent_dist
    assert torch.allclose(latents, posterior.mean)
    assert torch.allclose(autoencoder.distribution(images)[1], posterior.std)
    assert torch.equal(autoencoder.decode(latents), autoencoder.kl.decode(latents).sample)


def test_divergence_is_that_of_diffusers():
    trainable = make_kl_training(build_kl(), kl_weight=1.0)
    batch = make_batch()
    plain = make_kl_training(trainable.autoencoder, kl_weight=0.0)
    more = stepped(trainable, 0, batch)["loss_per_sample"] - stepped(plain, 0, batch)["loss_per_sample"]
    posterior = trainable.autoencoder.kl.encode(to_float(batch.image)).latent_dist
    assert torch.allclose(more, posterior.kl() / batch.image[0].numel(), atol=1e-5)


def test_latents_are_drawn_by_sample_number_in_training_alone():
    trainable = make_kl_training(build_kl(LinearStartKL, noise=0.5))
    batch, part = make_batch(), torch.tensor([3, 1])
    stepped(trainable, 0, batch)
    drawn = [stepped(trainable, 1, one)["loss_per_sample"] for one in (batch, batch.select(part))]
    assert torch.allclose(drawn[0][part], drawn[1], atol=1e-5)
    trainable.eval()
    assert (trainable(batch, seed=0)["loss_per_sample"] < drawn[0]).all()


def test_linear_start_is_exact_where_components_suffice():
    autoencoder = build_kl(LinearStartKL, noise=0.1)
    images = to_float(smooth_images(50))
    autoencoder.start_from(images)
    mean, deviation = autoencoder.distribution(images)
    assert mean.std().item() == pytest.approx(1, abs=0.01)
    assert torch.allclose(deviation, torch.tensor(0.1))
    assert torch.allclose(autoencoder.decode(mean), images, atol=1e-4)


def test_training_improves_the_reconstruction():
    trainable = make_kl_training(build_kl(LinearStartKL, noise=0.3))
    outputs = trained(trainable)
    psnr = [out["psnr"].item() for out in outputs]
    assert sum(psnr[-5:]) > sum(psnr[:5]) + 5
    assert outputs[-1]["latent_deviation"] < 0.3
