"""What a running training works with, and how it is set up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric

from zoomldm.curriculum.base import Curriculum
from zoomldm.data.batch import Batch
from zoomldm.data.order.loader import Partition, TrainLoader, partition
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.reader import SampleSource
from zoomldm.launch.settings import FabricSettings
from zoomldm.model.trainable import Trainable
from zoomldm.runs.checkpoint import Checkpoints
from zoomldm.runs.origin import Origin
from zoomldm.training.perf import PerfMeter, flops_per_image
from zoomldm.training.reporter import Reporter
from zoomldm.training.settings import LoopSettings, OptimSettings
from zoomldm.training.state import Keeper, TrainingState


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What is trained on.

    Attributes:
        source: samples of the training split; validation: of held-out patients, None for no validation.
        curriculum: p(magnification | step).
        seed: of the order of samples and of their noise.
    """

    source: SampleSource
    validation: SampleSource | None
    curriculum: Curriculum
    seed: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a running `fit` works with; `state` is what its steps change."""

    data: TrainingData
    optim: OptimSettings
    loop: LoopSettings
    fabric: Fabric
    part: Partition
    sequence: GlobalSequence
    rungs: np.ndarray
    state: TrainingState
    keeper: Keeper
    perf: PerfMeter
    reporter: Reporter

    def batches(self, step: int, *, num_workers: int) -> Iterator[Batch]:
        """Begin the loader at `step`."""
        return iter(
            TrainLoader(
                self.data.source,
                self.sequence,
                self.part,
                start_step=step,
                end_step=self.loop.steps,
                num_workers=num_workers,
                pin_memory=self.fabric.device.type == "cuda",
            )
        )


def set_up(
    trainable: Trainable,
    *,
    data: TrainingData,
    optim: OptimSettings,
    loop: LoopSettings,
    fabric: Fabric,
    hardware: FabricSettings,
    reporter: Reporter,
    parents: dict[str, str],
    origin: Origin | None,
    words: Sequence[str],
) -> Job:
    """Bring the trainable to the device and build what trains it."""
    source, run = data.source, reporter.run
    size, ranks = optim.batch_size, {"world_size": fabric.world_size, "rank": fabric.global_rank}
    part = partition(size, max_micro_batch=optim.max_micro_batch, **ranks)
    shard_sizes = source.shard_sizes if source.remote else None
    sequence = GlobalSequence(
        seed=data.seed, curriculum=data.curriculum, counts=source.counts, global_batch=size, shard_sizes=shard_sizes
    )
    rungs = np.flatnonzero(data.curriculum.probabilities(max(0, loop.steps - 1)) > 0)
    trainable.to(fabric.device).train()
    if hardware.chosen("channels_last"):
        trainable.to(memory_format=torch.channels_last)
    flops = flops_per_image(trainable, source, rungs, data.seed, fabric)
    if hardware.chosen("compile"):
        trainable.compile_parts()
    state = TrainingState.begin(trainable, optim=optim, loop=loop, ladder=source.ladder, fabric=fabric)
    checkpoints = Checkpoints(run.folder / "checkpoints", keep_last=loop.keep_last, keep_every=loop.keep_every)
    shared = {"state": state, "sequence": sequence, "part": part, "fabric": fabric, "reporter": reporter}
    keeper = Keeper(
        checkpoints=checkpoints, parents=parents, origin=origin, words=words, optim=optim, steps=loop.steps, **shared
    )
    perf_path = run.folder / "perf.jsonl" if reporter.is_first else None
    perf = PerfMeter(perf_path, device=fabric.device, devices=fabric.world_size, flops_per_image=flops)
    reporter.plan(optim, part, fabric)
    return Job(data=data, optim=optim, loop=loop, rungs=rungs, keeper=keeper, perf=perf, **shared)
