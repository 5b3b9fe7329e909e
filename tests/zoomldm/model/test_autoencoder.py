"""Autoencoder: latents before quantisation, codebooks that start from data and stay alive, a linear start."""

import pytest
import torch
from diffusers import VQModel

from zoomldm.data.batch import Batch
from zoomldm.model.autoencoder import (
    Autoencoder,
    AutoencoderTrainable,
    LinearStartAutoencoder,
    to_float,
    to_uint8,
)

SIZES = {"channels": 4, "num_res_blocks": 1, "num_codes": 32, "attention": False, "norm_groups": 2}


def build(cls=Autoencoder):
    torch.manual_seed(0)
    return cls(**SIZES)


def smooth_images(count, seed=0):
    """Make patches whose 4x4 blocks are constant, so that three principal components carry them."""
    colours = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return colours.repeat_interleave(4, 2).repeat_interleave(4, 3)


def make_batch(count=8, first=0, seed=0):
    return Batch(
        sample_number=first + torch.arange(count),
        rung=torch.zeros(count, dtype=torch.long),
        image=smooth_images(count, seed),
    )


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
    assert torch.equal(autoencoder.decode(latents), autoencoder.decode_quantised(quantised))
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
        autoencoder = Autoencoder()
    assert sum(p.numel() for p in autoencoder.parameters()) == pytest.approx(55.3e6, rel=0.002)
    assert autoencoder.latent_shape(256) == (3, 64, 64)


def test_bytes_round_trip():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(images)), images)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_linear_start_is_exact_where_components_suffice():
    autoencoder = build(LinearStartAutoencoder)
    images = to_float(smooth_images(50))
    autoencoder.start_from(images)
    latents = autoencoder.encode(images)
    assert latents.std().item() == pytest.approx(1, abs=0.01)
    assert torch.allclose(autoencoder.decode_quantised(latents), images, atol=1e-4)


def test_latents_pass_unquantised_then_the_codebook_starts_at_latents():
    trainable = AutoencoderTrainable(build(LinearStartAutoencoder), start_steps=2)
    start = trainable.autoencoder.codebook.detach().clone()
    for step in range(2):
        out = trainable(make_batch(first=8 * step), seed=0)
        assert out["quantisation_error"] == 0
        assert torch.equal(trainable.autoencoder.codebook, start)
    batch = make_batch(first=16)
    out = trainable(batch, seed=0)
    latents = trainable.autoencoder.encode(to_float(batch.image)).movedim(1, -1).reshape(-1, 3)
    distance = torch.cdist(trainable.autoencoder.codebook, latents).min(1).values
    assert distance.max() < 0.01
    assert out["quantisation_error"] > 0


def test_dead_codes_move_to_latents_and_live_ones_stay():
    trainable = AutoencoderTrainable(build(LinearStartAutoencoder), start_steps=0, revive_every=3)
    trainable(make_batch(), seed=0)
    with torch.no_grad():
        trainable.autoencoder.codebook[:5] = 100.0
    trainable.code_uses[5:] = 1
    live = trainable.autoencoder.codebook[5:].detach().clone()
    trainable.code_uses[:5] = 0
    trainable(make_batch(first=8), seed=0)
    assert (trainable.autoencoder.codebook[:5] == 100).all()
    trainable(make_batch(first=16), seed=0)
    assert trainable.autoencoder.codebook.abs().max() < 10
    assert torch.equal(trainable.autoencoder.codebook[5:], live)


def test_start_from_trained_weights_keeps_them():
    autoencoder = build(LinearStartAutoencoder)
    before = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    trainable = AutoencoderTrainable(autoencoder, start_steps=None)
    out = trainable(make_batch(), seed=0)
    assert out["quantisation_error"] > 0
    assert all(torch.equal(value, before[key]) for key, value in autoencoder.state_dict().items())


def test_evaluation_changes_nothing():
    trainable = AutoencoderTrainable(build(), start_steps=0)
    trainable(make_batch(), seed=0)
    before = {key: value.clone() for key, value in trainable.state_dict().items()}
    trainable.eval()
    whole = trainable(make_batch(), seed=0)["loss_per_sample"]
    part = trainable(make_batch().select(torch.tensor([3, 1])), seed=0)["loss_per_sample"]
    assert torch.allclose(part, whole[[3, 1]], atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in trainable.state_dict().items())


def test_gradients_reach_encoder_decoder_and_codebook_through_the_quantiser():
    trainable = AutoencoderTrainable(build(), start_steps=0, edge_weight=0.5, mse_weight=0.5)
    trainable(make_batch(), seed=0)["loss_per_sample"].mean().backward()
    vq = trainable.autoencoder.vq
    for parameter in (vq.encoder.conv_in.weight, vq.decoder.conv_out.weight, trainable.autoencoder.codebook):
        assert parameter.grad.abs().sum() > 0


def test_training_improves_the_reconstruction():
    trainable = AutoencoderTrainable(build(LinearStartAutoencoder), start_steps=5, revive_every=5)
    optimiser = torch.optim.AdamW(trainable.param_groups(), lr=2e-3)
    psnr = []
    for step in range(40):
        out = trainable(make_batch(first=8 * step, seed=step), seed=0)
        out["loss_per_sample"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        psnr.append(out["psnr"].item())
    assert sum(psnr[-5:]) > sum(psnr[6:11])


def test_contrast_loss_asks_for_missing_detail():
    plain, asking = (
        AutoencoderTrainable(build(LinearStartAutoencoder), start_steps=0, contrast_weight=weight).eval()
        for weight in (0.0, 1.0)
    )
    asking.load_state_dict(plain.state_dict())
    batch = make_batch()
    extra = asking(batch, seed=0)["loss_per_sample"] - plain(batch, seed=0)["loss_per_sample"]
    assert (extra > 0).all()
    flat = batch.image.float().mean((2, 3), keepdim=True).expand_as(batch.image).to(torch.uint8)
    asking.autoencoder.decode_quantised = lambda latents: to_float(batch.image)
    assert asking(batch, seed=0)["loss_per_sample"].max() < extra.min()
    asking.autoencoder.decode_quantised = lambda latents: to_float(flat)
    plain.autoencoder.decode_quantised = lambda latents: to_float(flat)
    missing = asking(batch, seed=0)["loss_per_sample"] - plain(batch, seed=0)["loss_per_sample"]
    assert (missing > 0.05).all()
