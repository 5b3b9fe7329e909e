"""The training loader: micro-batches of the global sequence, read by worker processes.

Step s of global batch B is split into `accumulation` micro-steps of `world_size` micro-batches each; rank r takes the
r-th. A worker reads whole micro-batches. Neither the number of ranks nor of workers changes which sample has which
number, so resuming needs the step alone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from zoomldm.data.batch import Batch
from zoomldm.data.reader import SampleSource
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.order.slots import SentBatch, SlotRing
from zoomldm.errors import ConfigError

FETCH_AHEAD = 100
"""Micro-steps by which shards that lie elsewhere are fetched before they are needed."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How a global batch is divided: global_batch = accumulation · world_size · micro_batch."""

    global_batch: int
    micro_batch: int
    world_size: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if self.global_batch % (self.micro_batch * self.world_size):
            raise ConfigError(
                f"optim.batch_size={self.global_batch} is not a multiple of micro-batch {self.micro_batch} × "
                f"{self.world_size} processes; choose one that is"
            )

    @property
    def accumulation(self) -> int:
        """Micro-steps of a step."""
        return self.global_batch // (self.micro_batch * self.world_size)

    def sample_numbers(self, micro_step: int) -> np.ndarray:
        """Return the numbers of this rank's samples in a micro-step (counted from the start of training), (b,)."""
        first = (micro_step * self.world_size + self.rank) * self.micro_batch
        return np.arange(first, first + self.micro_batch)


def partition(global_batch: int, *, max_micro_batch: int, world_size: int, rank: int = 0) -> Partition:
    """Divide a global batch into the largest equal micro-batches of at most `max_micro_batch` samples.

    Raises:
        ConfigError: the global batch is not a multiple of the number of processes.
    """
    if global_batch < 1 or max_micro_batch < 1:
        raise ConfigError(
            f"optim.batch_size={global_batch}, optim.max_micro_batch={max_micro_batch}: expected 1 or more"
        )
    if global_batch % world_size:
        below = global_batch // world_size * world_size
        raise ConfigError(
            f"optim.batch_size={global_batch} does not divide among {world_size} processes; "
            f"{below or world_size} or {below + world_size} would, or another fabric.devices"
        )
    share = global_batch // world_size
    accumulation = next(a for a in range(1, share + 1) if share % a == 0 and share // a <= max_micro_batch)
    return Partition(global_batch=global_batch, micro_batch=share // accumulation, world_size=world_size, rank=rank)


class TrainLoader:
    """Iterate over this rank's micro-batches of steps [start_step, end_step), in order.

    num_workers 0 reads in the main process; more change the speed and nothing else.
    """

    def __init__(
        self,
        source: SampleSource,
        sequence: GlobalSequence,
        partition: Partition,
        *,
        start_step: int,
        end_step: int,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch: int = 3,
    ) -> None:
        self.micro_steps = range(start_step * partition.accumulation, end_step * partition.accumulation)
        ring = SlotRing(
            num_workers=max(1, num_workers), per_worker=prefetch + 2, slot_bytes=most_bytes(source, partition)
        )
        self._loader = DataLoader(
            _MicroBatches(source, sequence, partition, ring),
            sampler=self.micro_steps,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=prefetch if num_workers else None,
            worker_init_fn=_obey_the_main_process_alone,
            collate_fn=_unchanged,
            multiprocessing_context="fork" if num_workers else None,
            generator=torch.Generator(),  # torch draws a seed for its workers: not from the model's generator
        )

    def __len__(self) -> int:
        return len(self.micro_steps)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield batch.received() if isinstance(batch, SentBatch) else batch


class _MicroBatches(Dataset):
    """Micro-step -> micro-batch."""

    def __init__(self, source: SampleSource, sequence: GlobalSequence, partition: Partition, ring: SlotRing) -> None:
        self.source, self.sequence, self.partition, self.ring = source, sequence, partition, ring

    def __getitem__(self, micro_step: int) -> Batch | SentBatch:
        draws = self.sequence.draws(self.partition.sample_numbers(micro_step))
        if self.source.remote is not None:
            later = self.sequence.draws(self.partition.sample_numbers(micro_step + FETCH_AHEAD))
            self.source.fetch_ahead(later.rung, later.index)
        variant = self.sequence.variants(draws.sample_number) if self.source.augmented_rungs else None
        reading = self.source.outlined(draws.rung, draws.index, draws.sample_number, variant)
        worker = get_worker_info()
        slot = self.ring.take(worker.id if worker else 0, reading.num_bytes)
        if slot is None:
            return reading.batch()
        reading.into(self.ring.block(slot, reading.num_bytes))
        return SentBatch(self.ring.id, slot, reading.num_bytes, reading.outline)


def most_bytes(source: SampleSource, partition: Partition) -> int:
    """Return the bytes of the largest micro-batch that could come: every sample of the largest kind."""
    grids = [rung.grid_side**2 for rung in source.ladder.rungs if source.counts[rung.index]]
    sizes = [64 * 8]
    if "grid" in source.columns:
        sizes.append(max(grids) * (2 * source.manifest.encoder.dim + 4) + 2 * source.manifest.encoder.dim + 64)
    if "image" in source.columns:
        sizes.append(3 * source.ladder.patch_px**2)
    if "latent" in source.columns:
        sizes.append(2 * int(np.prod(source.manifest.columns["latent"]["shape"])))
    return partition.micro_batch * sum(sizes) + 4096


def _obey_the_main_process_alone(worker: int) -> None:
    """Let the main process decide what a signal to the whole process group means.

    A scheduler's SIGTERM goes to the workers too, and a worker that died of it would end the run before it has saved.
    Only the SIGTERM that the main process itself sends, when it exits, ends a worker.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main_process = os.getppid()

    def listen() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process:
            pass
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()


def _unchanged(batch: Batch | SentBatch) -> Batch | SentBatch:
    return batch
