"""Measurements beside training, which take nothing from its sequence: validation losses, batch norm's statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning_fabric import Fabric

from zoomldm.cond.batchnorm import recalibrating
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.batch import Batch
from zoomldm.data.order.loader import Partition
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.reader import SampleSource
from zoomldm.model.trainable import Trainable
from zoomldm.training.ema import Ema
from zoomldm.training.state import copied

_FAR_STEP = 1 << 30  # sample numbers that training never reaches


@torch.no_grad()
def validation_losses(
    trainable: Trainable,
    *,
    source: SampleSource,
    rungs: np.ndarray,
    num_samples: int,
    batch_size: int,
    seed: int,
    fabric: Fabric,
) -> dict[int, float]:
    """Return the mean loss of each rung over the same held-out samples with the same noise every time.

    num_samples: a rung, or as many as there are; a rung without held-out samples is left out. The processes share the
    batches.
    """
    losses = {}
    for k in rungs.tolist():
        rung, index = source.eval_samples(source.ladder[k].magnification, num_samples, seed)
        if len(index) == 0:
            continue
        total = torch.zeros(2, dtype=torch.float64, device=fabric.device)
        starts = range(0, len(index), batch_size)
        for start in starts[fabric.global_rank :: fabric.world_size]:
            part = slice(start, start + batch_size)
            with fabric.autocast():
                outputs = trainable(source.read(rung[part], index[part]).to(fabric.device), seed)
            total += torch.stack([outputs["loss_per_sample"].double().sum(), total.new_tensor(len(index[part]))])
        total = fabric.all_reduce(total, reduce_op="sum").cpu()
        losses[k] = float(total[0] / total[1])
    return losses


@contextmanager
def averaged(
    trainable: Trainable,
    ema: Ema,
    *,
    source: SampleSource,
    rungs: np.ndarray,
    num_samples: int,
    partition: Partition,
    seed: int,
    fabric: Fabric,
) -> Iterator[None]:
    """Put the averaged weights in place, with batch norm's statistics measured under them; undo both at the end.

    The statistics are those of num_samples samples, the same number of each rung.
    """
    before = copied(dict(trainable.named_buffers()))
    trainable.eval()
    try:
        with torch.no_grad(), ema.applied():
            with recalibrating(trainable) as needed:
                read = source.only(trainable.statistics_columns)
                for batch in _evenly_mixed(read, rungs, num_samples, partition, seed) if needed else ():
                    with fabric.autocast():
                        trainable.measure_statistics(batch.to(fabric.device))
            yield
    finally:
        with torch.no_grad():
            for name, buffer in trainable.named_buffers():
                buffer.copy_(before[name])
        trainable.train()


def _evenly_mixed(
    source: SampleSource, rungs: np.ndarray, num_samples: int, partition: Partition, seed: int
) -> Iterator[Batch]:
    """Read whole micro-batches of an even mix of magnifications, this process's share."""
    counts = np.zeros_like(source.counts)
    counts[rungs] = source.counts[rungs]
    at_once = partition.micro_batch * partition.world_size
    sequence = GlobalSequence(
        seed=seed,
        curriculum=Uniform(counts),
        counts=counts,
        global_batch=at_once,
        shard_sizes=source.shard_sizes if source.remote else None,
    )
    for turn in range(-(-num_samples // at_once)):
        first = turn * at_once + partition.rank * partition.micro_batch
        draws = sequence.draws(np.arange(first, first + partition.micro_batch))
        yield source.read(draws.rung, draws.index, draws.sample_number + (_FAR_STEP << 20))
