"""What comes between the steps of a training: reports, validation, pictures and checkpoints, each at its interval."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zoomldm.model.trainable import Trainable
from zoomldm.training.job import Job
from zoomldm.training.optim import learning_rate
from zoomldm.training.state import copied
from zoomldm.training.validation import averaged, validation_losses

OnSample = Callable[[Trainable, int], Path | None]
"""(trainable with its averaged weights, step) -> a picture for the tracker."""


def report(job: Job, step: int) -> None:
    """Write the window's metrics, stop if they show a failed run, and show the speed."""
    state, way_back = job.state, job.keeper.way_back
    state.window.check(job.fabric, step, way_back)
    metrics = state.window.report(job.fabric) | {"lr": learning_rate(job.optim, step - 1, job.loop.steps)}
    by_rung = {name: value for name, value in metrics.items() if name.startswith("loss/")}
    worst = max(by_rung, key=by_rung.get).removeprefix("loss/")
    state.explosion.see(metrics["loss"], step, worst, way_back)
    job.reporter.write(step, metrics)
    job.reporter.progress(step, job.loop.steps, metrics["loss"], job.perf.report(step, job.loop.steps))


def do_what_is_due(job: Job, step: int, on_sample: OnSample | None, *, stop: bool, finished: bool) -> None:
    """Validate, sample and save, all under the averaged weights, where the intervals or the end ask for it."""
    loop, state = job.loop, job.state
    validate = job.data.validation is not None and (_due(step, loop.validate_every) or finished)
    sample = bool(loop.sample_every) and (_due(step, loop.sample_every) or finished)
    save = _due(step, loop.checkpoint_every) or stop
    if not (validate or sample or save):
        return
    if save:
        state.window.check(job.fabric, step, job.keeper.way_back)
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
                with job.fabric.autocast():
                    job.reporter.picture(on_sample(state.trainable, step))
            if save and job.reporter.is_first:
                weights = copied(state.trainable.sampling_model().state_dict())
        if save:
            job.keeper.save(step, weights, loss)


def _validate(job: Job, step: int) -> float:
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


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % every == 0
