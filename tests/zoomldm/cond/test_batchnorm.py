"""Global batch norm: one process is BatchNorm2d, two processes are one with the whole batch; recalibration."""

import os
import socket

import pytest
import torch
from torch import distributed, multiprocessing, nn

from zoomldm.cond.batchnorm import GlobalBatchNorm2d, recalibrating

SPLIT = (3, 5)


def data():
    generator = torch.Generator().manual_seed(0)
    x = 5 + 3 * torch.randn(sum(SPLIT), 4, 6, 6, generator=generator)
    return x, torch.randn(x.shape, generator=generator)


def run(norm, x, weights):
    """Give output, gradient of the input and the norm, after a backward of a weighted sum."""
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 4))
        norm.bias.copy_(torch.linspace(-1, 1, 4))
    x = x.clone().requires_grad_(True)
    out = norm(x)
    (out * weights).sum().backward()
    return out.detach(), x.grad


def state(norm):
    return {key: value.clone() for key, value in norm.state_dict().items()}


def rank_main(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    norm = GlobalBatchNorm2d(4)
    x, weights = (part.split(SPLIT)[rank] for part in data())
    out, grad = run(norm, x, weights)
    for parameter in norm.parameters():
        distributed.all_reduce(parameter.grad)
    torch.save(
        {"out": out, "grad": grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "state": state(norm)},
        f"{folder}/{rank}.pt",
    )
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "spawn" if torch.cuda.is_available() else "fork"  # autograd with CUDA cannot be forked
    multiprocessing.start_processes(rank_main, (port, str(folder)), nprocs=2, start_method=start)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_ranks_equal_one_with_the_whole_batch(two_ranks):
    norm = nn.BatchNorm2d(4)
    out, grad = run(norm, *data())
    for name, expected in (("out", out), ("grad", grad)):
        assert torch.allclose(torch.cat([r[name] for r in two_ranks]), expected, atol=1e-5), name
    for result in two_ranks:
        assert torch.allclose(result["weight"], norm.weight.grad, atol=1e-4)
        assert torch.allclose(result["bias"], norm.bias.grad, atol=1e-4)
        for key, value in state(norm).items():
            assert torch.allclose(result["state"][key], value, atol=1e-5), key


def test_one_process_is_batchnorm2d():
    ours, theirs = GlobalBatchNorm2d(4), nn.BatchNorm2d(4)
    for a, b in zip(run(ours, *data()), run(theirs, *data()), strict=True):
        assert torch.equal(a, b)
    assert state(ours).keys() == state(theirs).keys()
    x, _ = data()
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_recalibration_averages_over_the_batches_and_restores_the_mode():
    module = nn.Sequential(nn.Conv2d(2, 4, 1), GlobalBatchNorm2d(4)).eval()
    module[1].running_mean.fill_(7)
    batches = [torch.randn(4, 2, 5, 5) + shift for shift in (0, 1, 5)]
    before = {key: value.clone() for key, value in module.named_parameters()}
    with torch.no_grad(), recalibrating(module) as needed:
        assert needed
        for batch in batches:
            module(batch)
    with torch.no_grad():
        features = [module[0](batch) for batch in batches]
    assert torch.allclose(module[1].running_mean, torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0), atol=1e-5)
    assert torch.allclose(module[1].running_var, torch.stack([f.var((0, 2, 3)) for f in features]).mean(0), atol=1e-4)
    assert not module[1].training
    assert module[1].momentum == 0.1
    assert all(torch.equal(value, before[key]) for key, value in module.named_parameters())


def test_recalibration_is_not_needed_without_batch_norm():
    with recalibrating(nn.Linear(2, 2)) as needed:
        assert not needed


def test_recalibration_leaves_frozen_batch_norms_alone():
    norm = GlobalBatchNorm2d(4).requires_grad_(False)
    norm.running_mean.fill_(7)
    with recalibrating(norm) as needed:
        assert not needed
    assert (norm.running_mean == 7).all()
