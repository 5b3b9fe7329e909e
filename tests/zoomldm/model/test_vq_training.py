"""The training of autoencoders: codebooks that start from data and stay alive, and what the losses ask for."""

import os
import socket

import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tests.helpers.options import make_vq_training
from tests.helpers.tiny_autoencoder import build, make_batch, stepped, trained
from zoomldm.data.pixels import to_float
from zoomldm.model.autoencoder import LinearStartAutoencoder


def test_latents_pass_unquantised_then_the_codebook_starts_at_latents():
    trainable = make_vq_training(build(LinearStartAutoencoder), start_steps=2)
    start = trainable.autoencoder.codebook.detach().clone()
    for step in range(2):
        out = stepped(trainable, step, make_batch(first=8 * step))
        assert out["quantisation_error"] == 0
        assert torch.equal(trainable.autoencoder.codebook, start)
    batch = make_batch(first=16)
    out = stepped(trainable, 2, batch)
    latents = trainable.autoencoder.encode(to_float(batch.image)).movedim(1, -1).reshape(-1, 3)
    distance = torch.cdist(trainable.autoencoder.codebook, latents).min(1).values
    assert distance.max() < 0.01
    assert out["quantisation_error"] > 0


def test_dead_codes_move_to_latents_and_live_ones_stay():
    trainable = make_vq_training(build(LinearStartAutoencoder), start_steps=0, revive_every=3)
    stepped(trainable, 0, make_batch())
    with torch.no_grad():
        trainable.autoencoder.codebook[:5] = 100.0
    trainable.code_uses[5:] = 1
    live = trainable.autoencoder.codebook[5:].detach().clone()
    trainable.code_uses[:5] = 0
    stepped(trainable, 1, make_batch(first=8))
    assert (trainable.autoencoder.codebook[:5] == 100).all()
    stepped(trainable, 2, make_batch(first=16))
    assert trainable.autoencoder.codebook.abs().max() < 10
    assert torch.equal(trainable.autoencoder.codebook[5:], live)


def test_the_clock_and_the_counts_are_those_of_steps_however_many_micro_batches_make_one():
    whole, parts = (make_vq_training(build(), start_steps=1, revive_every=3, revive_steps=3) for _ in range(2))
    parts.load_state_dict(whole.state_dict())
    for step in range(2):
        batch = make_batch(first=16 * step, count=16)
        stepped(whole, step, batch)
        with torch.no_grad():
            parts.autoencoder.codebook.copy_(whole.autoencoder.codebook)
        parts.before_step(step)
        parts._is_first_of_step = False  # the codes start from the batch at hand, which is not the same one
        for first in range(0, 16, 4):
            parts(batch.select(torch.arange(first, first + 4)), seed=0)
        assert parts.num_forwards == whole.num_forwards == step + 1
        assert torch.equal(parts.code_uses, whole.code_uses)
    assert whole.code_uses.sum() > 0


def count_in_rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    trainable = make_vq_training(build(), start_steps=None)
    model = DistributedDataParallel(trainable)
    for step in range(3):
        trainable.before_step(step)
        batch = make_batch(first=8 * step, seed=step).select(torch.arange(4 * rank, 4 * rank + 4))
        model(batch, 0)["loss_per_sample"].mean().backward()
    torch.save(trainable.code_uses, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_count_the_uses_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "spawn" if torch.cuda.is_available() else "fork"
    multiprocessing.start_processes(count_in_rank, (port, str(tmp_path)), nprocs=2, start_method=start)
    one = make_vq_training(build(), start_steps=None)
    for step in range(3):
        stepped(one, step, make_batch(first=8 * step, seed=step))
    assert one.code_uses.sum() > 0
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt"), one.code_uses)


def test_codes_are_tended_once_a_step():
    trainable = make_vq_training(build(), start_steps=0, revive_every=50)
    trainable.before_step(0)
    trainable(make_batch(), seed=0)
    codes = trainable.autoencoder.codebook.detach().clone()
    trainable(make_batch(first=8), seed=0)
    assert torch.equal(trainable.autoencoder.codebook, codes)


def test_start_from_trained_weights_keeps_them():
    autoencoder = build(LinearStartAutoencoder)
    before = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    trainable = make_vq_training(autoencoder, start_steps=None)
    out = trainable(make_batch(), seed=0)
    assert out["quantisation_error"] > 0
    assert all(torch.equal(value, before[key]) for key, value in autoencoder.state_dict().items())


def test_evaluation_changes_nothing():
    trainable = make_vq_training(build(), start_steps=0)
    stepped(trainable, 0, make_batch())
    before = {key: value.clone() for key, value in trainable.state_dict().items()}
    trainable.eval()
    whole = trainable(make_batch(), seed=0)["loss_per_sample"]
    part = trainable(make_batch().select(torch.tensor([3, 1])), seed=0)["loss_per_sample"]
    assert torch.allclose(part, whole[[3, 1]], atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in trainable.state_dict().items())


def test_gradients_reach_encoder_decoder_and_codebook_through_the_quantiser():
    trainable = make_vq_training(build(), start_steps=0, edge_weight=0.5, mse_weight=0.5)
    stepped(trainable, 0, make_batch())["loss_per_sample"].mean().backward()
    vq = trainable.autoencoder.vq
    for parameter in (vq.encoder.conv_in.weight, vq.decoder.conv_out.weight, trainable.autoencoder.codebook):
        assert parameter.grad.abs().sum() > 0


def test_training_improves_the_reconstruction():
    trainable = make_vq_training(build(LinearStartAutoencoder), start_steps=5, revive_every=5)
    outputs = trained(trainable)
    psnr = [out["psnr"].item() for out in outputs]
    assert sum(psnr[-5:]) > sum(psnr[6:11])


def test_contrast_loss_asks_for_missing_detail():
    plain, asking = (
        make_vq_training(build(LinearStartAutoencoder), start_steps=0, contrast_weight=weight).eval()
        for weight in (0.0, 1.0)
    )
    asking.load_state_dict(plain.state_dict())
    batch = make_batch()
    extra = asking(batch, seed=0)["loss_per_sample"] - plain(batch, seed=0)["loss_per_sample"]
    assert (extra > 0).all()
    flat = batch.image.float().mean((2, 3), keepdim=True).expand_as(batch.image).to(torch.uint8)
    asking.autoencoder.decode_as_given = lambda latents: to_float(batch.image)
    assert asking(batch, seed=0)["loss_per_sample"].max() < extra.min()
    asking.autoencoder.decode_as_given = lambda latents: to_float(flat)
    plain.autoencoder.decode_as_given = lambda latents: to_float(flat)
    missing = asking(batch, seed=0)["loss_per_sample"] - plain(batch, seed=0)["loss_per_sample"]
    assert (missing > 0.05).all()
