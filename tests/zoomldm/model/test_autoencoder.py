"""VQAutoencoder: latents before quantisation, a linear start."""

import pytest
import torch
from diffusers import VQModel

from tests.helpers.options import model_section
from tests.helpers.tiny_autoencoder import build, smooth_images
from zoomldm.config import Option
from zoomldm.data.pixels import to_float
from zoomldm.model.autoencoder import LinearStartAutoencoder
from zoomldm.stages.autoencoder import autoencoder_of


def test_shapes():
    autoencoder = build()
    latents = autoencoder.encode(torch.randn(2, 3, 16, 16))
    assert latents.shape == (2, *autoencoder.latent_shape(16)) == (2, 3, 4, 4)
    assert autoencoder.decode(latents).shape == (2, 3, 16, 16)


def test_encode_gives_latents_before_quantisation_and_decode_quantises():
    autoencoder = build()
    torch.nn.init.normal_(autoencoder.codebook)
    latents = autoencoder.encode(torch.randn(2, 3, 16, 16))
    quantised = autoencoder.quantise(latents)
    assert not torch.allclose(latents, quantised)
    assert torch.equal(autoencoder.decode(latents), autoencoder.decode_as_given(quantised))
    assert torch.equal(autoencoder.quantise(quantised), quantised)


def test_codes_are_the_nearest():
    autoencoder = build()
    torch.nn.init.normal_(autoencoder.codebook)
    latents = torch.randn(2, 3, 4, 4)
    distance = (latents.movedim(1, -1)[..., None, :] - autoencoder.codebook).square().sum(-1)
    assert torch.equal(autoencoder.codes(latents), distance.argmin(-1))


def test_it_is_what_diffusers_does():
    autoencoder = build()
    torch.nn.init.normal_(autoencoder.codebook)
    images = torch.randn(2, 3, 16, 16)
    assert isinstance(autoencoder.vq, VQModel)
    assert torch.allclose(autoencoder.decode(autoencoder.encode(images)), autoencoder.vq(images).sample, atol=1e-5)


def test_paper_size_has_55_million_parameters():
    with torch.device("meta"):
        model = model_section("autoencoder")["model"]
        autoencoder = autoencoder_of(Option("model.network", model["network"]), model)
    assert sum(p.numel() for p in autoencoder.parameters()) == pytest.approx(55.3e6, rel=0.002)
    assert autoencoder.latent_shape(256) == (3, 64, 64)


def test_linear_start_is_exact_where_components_suffice():
    autoencoder = build(LinearStartAutoencoder)
    images = to_float(smooth_images(50))
    autoencoder.start_from(images)
    latents = autoencoder.encode(images)
    assert latents.std().item() == pytest.approx(1, abs=0.01)
    assert torch.allclose(autoencoder.decode_as_given(latents), images, atol=1e-4)
