"""The training of autoencoders: codebooks that start from data and stay alive, and what the losses ask for."""

import torch

from tests.helpers.tiny_autoencoder import build, make_batch
from zoomldm.data.pixels import to_float
from zoomldm.model.autoencoder import LinearStartAutoencoder
from zoomldm.model.vq_training import VQTraining


def test_latents_pass_unquantised_then_the_codebook_starts_at_latents():
    trainable = VQTraining(build(LinearStartAutoencoder), start_steps=2)
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
    trainable = VQTraining(build(LinearStartAutoencoder), start_steps=0, revive_every=3)
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
    trainable = VQTraining(autoencoder, start_steps=None)
    out = trainable(make_batch(), seed=0)
    assert out["quantisation_error"] > 0
    assert all(torch.equal(value, before[key]) for key, value in autoencoder.state_dict().items())


def test_evaluation_changes_nothing():
    trainable = VQTraining(build(), start_steps=0)
    trainable(make_batch(), seed=0)
    before = {key: value.clone() for key, value in trainable.state_dict().items()}
    trainable.eval()
    whole = trainable(make_batch(), seed=0)["loss_per_sample"]
    part = trainable(make_batch().select(torch.tensor([3, 1])), seed=0)["loss_per_sample"]
    assert torch.allclose(part, whole[[3, 1]], atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in trainable.state_dict().items())


def test_gradients_reach_encoder_decoder_and_codebook_through_the_quantiser():
    trainable = VQTraining(build(), start_steps=0, edge_weight=0.5, mse_weight=0.5)
    trainable(make_batch(), seed=0)["loss_per_sample"].mean().backward()
    vq = trainable.autoencoder.vq
    for parameter in (vq.encoder.conv_in.weight, vq.decoder.conv_out.weight, trainable.autoencoder.codebook):
        assert parameter.grad.abs().sum() > 0


def test_training_improves_the_reconstruction():
    trainable = VQTraining(build(LinearStartAutoencoder), start_steps=5, revive_every=5)
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
        VQTraining(build(LinearStartAutoencoder), start_steps=0, contrast_weight=weight).eval() for weight in (0.0, 1.0)
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
