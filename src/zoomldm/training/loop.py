"""The training loop, the same for everything that is trained.

    resume → while step < steps: draw, noise, predict, loss, backward, update, average, then what is due

The order of samples and every random draw are functions of (seed, sample number), so the step is all that going on
needs besides the weights. On a CPU a run that was killed and went on is the undisturbed run to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from zoomldm.curriculum.base import Curriculum
from zoomldm.data.batch import Batch
from zoomldm.data.order.loader import Partition, TrainLoader, partition
from zoomldm.data.order.sequence import GlobalSequence, mix64
from zoomldm.data.reader import SampleSource
from zoomldm.errors import UserError
from zoomldm.launch.preempt import Preempted, Preemption
from zoomldm.launch.settings import FabricSettings
from zoomldm.model.trainable import Trainable
from zoomldm.runs.checkpoint import Checkpoints
from zoomldm.runs.run import Run
from zoomldm.tracking.base import Tracker
from zoomldm.training.memory import advice
from zoomldm.training.optim import learning_rate, set_learning_rate
from zoomldm.training.perf import PerfMeter, flops_per_image
from zoomldm.training.reporter import Reporter
from zoomldm.training.settings import LoopSettings, OptimSettings
from zoomldm.training.state import Keeper, TrainingState, copied
from zoomldm.training.validation import averaged, validation_losses

OnSample = Callable[[Trainable, int], Path | None]


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
    tracker: Tracker | None = None,
    on_sample: OnSample | None = None,
) -> FitResult:
    """Train until `loop.steps`, or until a signal; go on from the run's newest whole checkpoint.

    Args:
        parents: what the trainable stands on, by SHA-256; part of every checkpoint.
        on_sample: called in the first process at sampling intervals and at the end, with the averaged weights in place;
            a file that it returns goes to the tracker.

    Raises:
        UserError: the loss is no number or explodes, memory or disk is short; the message says what to do.
        Preempted: a signal asked the run to stop; everything is saved, and the process should end.
    """
    reporter = Reporter(run, tracker or Tracker(), is_first=fabric.global_rank == 0)
    job = _set_up(
        trainable,
        data=data,
        optim=optim,
        loop=loop,
        fabric=fabric,
        hardware=hardware,
        reporter=reporter,
        parents=dict(parents or {}),
    )
    with Preemption(fabric, loop.preempt_every) as preemption, run.in_progress(reporter.is_first):
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


@dataclass(frozen=True, kw_only=True)
class _Job:
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


def train_step(job: _Job, batches: Iterator[Batch], step: int) -> None:
    """Make one step: draw, noise, predict, loss, backward, update, average."""
    state, fabric, part = job.state, job.fabric, job.part
    torch.manual_seed(_step_seed(job.data.seed, step, fabric.global_rank))
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


def _forward_backward(job: _Job, batch: Batch) -> dict[str, Tensor] | None:
    """Add a micro-batch's share of the gradient of the global batch's mean loss; None where memory is short.

    What a failed pass holds is freed only when its exception is over, so what fits is asked by the caller, after it.
    """
    try:
        outputs = job.state.model(batch, job.data.seed)
        job.fabric.backward(outputs["loss_per_sample"].mean() / job.part.accumulation)
    except torch.OutOfMemoryError:
        return None
    return outputs


def report(job: _Job, step: int) -> None:
    """Write the window's metrics, stop if they show a failed run, and show the speed."""
    state, last_good = job.state, job.keeper.last_good
    state.window.check(job.fabric, step, last_good)
    metrics = state.window.report(job.fabric) | {"lr": learning_rate(job.optim, step - 1, job.loop.steps)}
    by_rung = {name: value for name, value in metrics.items() if name.startswith("loss/")}
    worst = max(by_rung, key=by_rung.get).removeprefix("loss/")
    state.explosion.see(metrics["loss"], step, worst, last_good)
    job.reporter.write(step, metrics)
    job.reporter.progress(step, job.loop.steps, metrics["loss"], job.perf.report(step, job.loop.steps))


def do_what_is_due(job: _Job, step: int, on_sample: OnSample | None, *, stop: bool, finished: bool) -> None:
    """Validate, sample and save, all under the averaged weights, where the intervals or the end ask for it."""
    loop, state = job.loop, job.state
    validate = job.data.validation is not None and (_due(step, loop.validate_every) or finished)
    sample = bool(loop.sample_every) and (_due(step, loop.sample_every) or finished)
    save = _due(step, loop.checkpoint_every) or stop
    if not (validate or sample or save):
        return
    if save:
        state.window.check(job.fabric, step, job.keeper.last_good)
    with job.perf.paused():
        loss, weights = None, {}
        with averaged(
            state.trainable,
            state.ema,
            source=job.data.source,
            rungs=job.rungs,
            num_samples=loop.recalibration_samples,
            partition=job.part,
            seed=job.data.seed,
            fabric=job.fabric,
        ):
            if validate:
                loss = state.validation_loss = _validate(job, step)
            if sample and job.reporter.is_first and on_sample is not None:
                job.reporter.picture(on_sample(state.trainable, step))
            if save and job.reporter.is_first:
                weights = copied(state.trainable.sampling_model().state_dict())
        if save:
            job.keeper.save(step, weights, loss)


def _validate(job: _Job, step: int) -> float:
    losses = validation_losses(
        job.state.trainable,
        source=job.data.validation,
        rungs=job.rungs,
        num_samples=job.loop.validation_samples,
        batch_size=job.part.micro_batch,
        seed=job.data.seed,
        fabric=job.fabric,
    )
    mean = sum(losses.values()) / len(losses)
    ladder = job.data.source.ladder
    by_label = {f"validation/loss/{ladder[k].label}": loss for k, loss in losses.items()}
    job.reporter.write(step, {"validation/loss": mean, **by_label})
    job.reporter.say(f"step {step}/{job.loop.steps}  validation loss {mean:.4f}")
    return mean


def _set_up(
    trainable: Trainable,
    *,
    data: TrainingData,
    optim: OptimSettings,
    loop: LoopSettings,
    fabric: Fabric,
    hardware: FabricSettings,
    reporter: Reporter,
    parents: dict[str, str],
) -> _Job:
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
        compile_parts(trainable)
    state = TrainingState.begin(trainable, optim=optim, loop=loop, ladder=source.ladder, fabric=fabric)
    checkpoints = Checkpoints(run.folder / "checkpoints", keep_last=loop.keep_last, keep_every=loop.keep_every)
    shared = {"state": state, "sequence": sequence, "part": part, "fabric": fabric, "reporter": reporter}
    keeper = Keeper(checkpoints=checkpoints, parents=parents, **shared)
    perf_path = run.folder / "perf.jsonl" if reporter.is_first else None
    perf = PerfMeter(perf_path, device=fabric.device, devices=fabric.world_size, flops_per_image=flops)
    reporter.plan(optim, part, fabric)
    return _Job(data=data, optim=optim, loop=loop, rungs=rungs, keeper=keeper, perf=perf, **shared)


def compile_parts(trainable: Trainable) -> None:
    """Compile the networks of fixed input shape in place: those that a trainable names in `compiled_parts`."""
    for name in trainable.compiled_parts:
        trainable.get_submodule(name).compile()


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % every == 0


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of torch's own generators for a step (dropout layers, whatever is not keyed by sample)."""
    return int(mix64(seed % (1 << 63), np.array([step * 65536 + rank]))[0] >> np.uint64(1))
