"""Batch norm over the global batch, and the re-estimation of its running statistics.

Unlike torch's SyncBatchNorm it runs on CPU processes too, and its parameters and buffers are those of BatchNorm2d.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn


class _SumOverRanks(torch.autograd.Function):
    """Sum a tensor over all ranks; each rank's gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _SumOverRanks.apply(grad)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics in training are those of all ranks' batches together.

    Ranks may hold different numbers of samples. Statistics are taken in float32, the mean before the variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and _num_ranks() > 1):
            return super().forward(x)
        x_wide = x.float()
        sums = _SumOverRanks.apply(torch.cat([x_wide.sum((0, 2, 3)), x_wide.new_tensor([x.numel() // x.shape[1]])]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x_wide - mean[:, None, None]
        variance = _SumOverRanks.apply(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)


@contextmanager
def recalibrating(module: nn.Module) -> Iterator[bool]:
    """Re-estimate the running statistics of every batch norm in `module` from the batches passed meanwhile.

    The statistics start anew and become the plain average over those batches, under whatever weights the module holds
    (EMA weights before sampling). Frozen batch norms keep theirs, and everything else about the module's mode stays.
    Yields whether there is any batch norm to measure, so that the caller can spare the passes:

        with torch.no_grad(), recalibrating(conditioner) as needed:
            for batch in batches if needed else ():
                conditioner(batch.grids, batch.rung)
    """
    norms = [
        m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats and not _is_frozen(m)
    ]
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield bool(norms)
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)


def _is_frozen(norm: nn.BatchNorm2d) -> bool:
    return norm.affine and not norm.weight.requires_grad


def _num_ranks() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
