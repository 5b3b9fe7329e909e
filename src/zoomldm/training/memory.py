"""What to do when memory was short: which micro-batch fits."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from zoomldm.data.batch import Batch
from zoomldm.data.order.loader import Partition
from zoomldm.model.trainable import Trainable


def advice(trainable: Trainable, batch: Batch, seed: int, part: Partition, fabric: Fabric) -> str:
    """Say that a micro-batch did not fit and which one does.

    Sizes are tried only where a single process trains: with several, the others would wait for this one for ever.
    """
    if fabric.world_size > 1:
        remedy = f"set optim.max_micro_batch={max(1, part.micro_batch // 2)}"
    elif fits := largest_that_fits(trainable, batch, seed, part, fabric):
        remedy = f"optim.max_micro_batch={fits} fits"
    else:
        remedy = "not even one sample fits; choose a smaller model"
    return (
        f"out of memory on {fabric.device} with {part.micro_batch} samples at once; {remedy} (the global batch stays "
        f"{part.global_batch}, accumulated)"
    )


def largest_that_fits(trainable: Trainable, batch: Batch, seed: int, part: Partition, fabric: Fabric) -> int | None:
    """Try ever smaller equal shares of the micro-batch until one passes forward and backward."""
    share = part.global_batch // part.world_size
    for size in sorted((s for s in range(1, part.micro_batch) if share % s == 0), reverse=True):
        trainable.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            with fabric.autocast():
                trainable(batch.select(torch.arange(size)), seed)["loss_per_sample"].mean().backward()
            return size
        except torch.OutOfMemoryError:
            continue
    return None
