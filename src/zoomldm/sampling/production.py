"""Patches made batch by batch, by one process or several, each batch kept as soon as it is made.

Batches are whole, whoever makes them: a patch does not depend on the number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from lightning_fabric import Fabric

from zoomldm.files import progress

T = TypeVar("T")
C = TypeVar("C")
M = TypeVar("M")


@dataclass(frozen=True, kw_only=True)
class Production(Generic[T, C, M]):
    """How a batch is made; a task T names it, and is the same in all processes.

    Attributes:
        size: how many patches a task has.
        read: fetches the conditions, while the batch before is being made.
        make: makes the patches.
        keep: puts them on disk, while the next batch is being made.
        passes: of the network, for a patch of a task.
    """

    size: Callable[[T], int]
    read: Callable[[T], C]
    make: Callable[[T, C], M]
    keep: Callable[[T, M], None]
    passes: Callable[[T], int]

    def run(self, tasks: Sequence[T], fabric: Fabric) -> None:
        """Share the first process's tasks out and return when all are done, in every process."""
        tasks = fabric.broadcast(list(tasks))
        if not tasks:
            return
        mine = tasks[fabric.global_rank :: fabric.world_size]
        rounds = [
            sum(map(self.size, tasks[at : at + fabric.world_size])) for at in range(0, len(tasks), fabric.world_size)
        ]
        is_first = fabric.global_rank == 0
        if is_first:
            print(self._cost(tasks, fabric))
        kept: Future[None] | None = None
        with (
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as keeper,
            progress(total=sum(rounds), label="synthetic patches", unit="patch", shown=is_first) as bar,
        ):
            ahead = [reader.submit(self.read, task) for task in mine[:1]]
            for place, task in enumerate(mine):
                conditions = ahead.pop().result()
                ahead = [reader.submit(self.read, following) for following in mine[place + 1 : place + 2]]
                began = time.monotonic()
                made = self.make(task, conditions)
                if is_first and place == min(1, len(mine) - 2):  # the first one also compiles and warms up
                    bar.write(_estimate(rounds[place], sum(rounds[place + 1 :]), time.monotonic() - began))
                if kept is not None:
                    kept.result()
                kept = keeper.submit(self.keep, task, made)
                bar.update(rounds[place])
            if kept is not None:
                kept.result()
        fabric.barrier()

    def _cost(self, tasks: Sequence[T], fabric: Fabric) -> str:
        each = sorted({self.passes(task) for task in tasks})
        total = sum(self.size(task) * self.passes(task) for task in tasks)
        said = f"{each[0]}" if len(each) == 1 else f"{each[0]} to {each[-1]}"
        what = f"{sum(map(self.size, tasks)):,} synthetic patches to make, {said} passes of the network each"
        return f"{what}: {total:,} passes" + (f" by {fabric.world_size} processes" if fabric.world_size > 1 else "")


def _estimate(num: int, num_left: int, seconds: float) -> str:
    rate = num / max(seconds, 1e-9)
    return f"{rate:.3g} patches/s in the first batches: {num_left / rate / 60:,.1f} minutes for the other {num_left:,}"
