"""The training loop, the same for everything that is trained.

    resume → while step < steps: draw, noise, predict, loss, backward, update, average, then what is due

The order of samples and every random draw are functions of (seed, sample number), so the step is all that going on
needs besides the weights. On a CPU a run that was killed and went on is the undisturbed run to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from zoomldm.data.batch import Batch
from zoomldm.data.order.sequence import mix64
from zoomldm.errors import UserError
from zoomldm.launch.preempt import Preempted, Preemption
from zoomldm.launch.settings import FabricSettings
from zoomldm.model.trainable import Trainable
from zoomldm.runs.origin import Origin
from zoomldm.runs.run import Run
from zoomldm.tracking.base import Tracker
from zoomldm.training.due import OnSample, do_what_is_due, report
from zoomldm.training.job import Job, TrainingData, set_up
from zoomldm.training.memory import advice
from zoomldm.training.optim import learning_rate, set_learning_rate
from zoomldm.training.reporter import Reporter
from zoomldm.training.settings import LoopSettings, OptimSettings


@dataclass(frozen=True)
class FitResult:
    """What a call of `fit` came to; validation_loss is the last one measured."""

    step: int
    validation_loss: float | None


def fit(
    trainable: Trainable,
    *,
    data: TrainingData,
    optim: OptimSettings,
    loop: LoopSettings,
    fabric: Fabric,
    hardware: FabricSettings,
    run: Run,
    parents: Mapping[str, str] | None = None,
    origin: Origin | None = None,
    words: Sequence[str] = (),
    tracker: Tracker | None = None,
    on_sample: OnSample | None = None,
) -> FitResult:
    """Train until `loop.steps`, or until a signal; go on from the run's newest whole checkpoint.

    Args:
        parents: what the trainable stands on, by SHA-256; part of every checkpoint.
        origin: the checkpoint of another run that a new run begins at.
        words: the overrides that were typed, for the command that a message names.
        on_sample: called in the first process at sampling intervals and at the end, with the averaged weights in place;
            a file that it returns goes to the tracker.

    Raises:
        UserError: the loss is no number or explodes, memory or disk is short; the message says what to do.
        Preempted: a signal asked the run to stop; everything is saved, and the process should end.
    """
    reporter = Reporter(run, tracker or Tracker(), is_first=fabric.global_rank == 0)
    with Preemption(fabric, loop.preempt_every) as preemption, run.in_progress(reporter.is_first):
        job = set_up(
            trainable,
            data=data,
            optim=optim,
            loop=loop,
            fabric=fabric,
            hardware=hardware,
            reporter=reporter,
            parents=dict(parents or {}),
            origin=origin,
            words=words,
        )
        step = job.keeper.resume()
        batches = job.batches(step, num_workers=hardware.workers)
        stop = step >= loop.steps
        while not stop:
            train_step(job, batches, step)
            step += 1
            finished = step == loop.steps
            stop = preemption.agreed(step) or finished
            if step % loop.log_every == 0 or finished:
                report(job, step)
            do_what_is_due(job, step, on_sample, stop=stop, finished=finished)
        reporter.end(finished=step >= loop.steps)
        if step < loop.steps:
            preemption.pass_on()
            raise Preempted()
    return FitResult(step, job.state.validation_loss)


def train_step(job: Job, batches: Iterator[Batch], step: int) -> None:
    """Make one step: draw, noise, predict, loss, backward, update, average."""
    state, fabric, part = job.state, job.fabric, job.part
    torch.manual_seed(_step_seed(job.data.seed, step, fabric.global_rank))
    state.trainable.before_step(step)
    for micro_step in range(part.accumulation):
        batch = job.perf.waited(batches).to(fabric.device, non_blocking=True)
        with fabric.no_backward_sync(job.state.model, enabled=micro_step < part.accumulation - 1):
            outputs = _forward_backward(job, batch)
        if outputs is None:
            raise UserError(advice(state.trainable, batch, job.data.seed, part, fabric))
        state.window.add(outputs, batch.rung)
    norm = fabric.clip_gradients(
        job.state.model, state.optimizer, max_norm=job.optim.clip_norm or float("inf"), error_if_nonfinite=False
    )
    set_learning_rate(state.optimizer, learning_rate(job.optim, step, job.loop.steps))
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.ema.update(step)
    state.window.end_step(norm)
    job.perf.end_step(part.global_batch)


def _forward_backward(job: Job, batch: Batch) -> dict[str, Tensor] | None:
    """Add a micro-batch's share of the gradient of the global batch's mean loss; None where memory is short.

    What a failed pass holds is freed only when its exception is over, so what fits is asked by the caller, after it.
    """
    try:
        outputs = job.state.model(batch, job.data.seed)
        job.fabric.backward(outputs["loss_per_sample"].mean() / job.part.accumulation)
    except torch.OutOfMemoryError:
        return None
    return outputs


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of torch's own generators for a step (dropout layers, whatever is not keyed by sample)."""
    return int(mix64(seed % (1 << 63), np.array([step * 65536 + rank]))[0] >> np.uint64(1))
