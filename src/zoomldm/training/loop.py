"""The training loop, the same for the autoencoder, ZoomLDM and the EDM.

    resume → while step < steps: batches, loss, backward, step, EMA, then what is due

The order of samples and every random draw are functions of (seed, sample number), so the step is all that going on
needs besides the weights. On a CPU a run that was killed and went on is the undisturbed run to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from zoomldm.runs.checkpoint import CheckpointInfo, Checkpoints
from zoomldm.training.ema import Ema
from zoomldm.training.optim import build_optimizer, learning_rate, set_learning_rate
from zoomldm.training.perf import PerfMeter, count_flops_per_image, duration
from zoomldm.training.settings import LoopSettings, OptimSettings
from zoomldm.training.validation import refreshed_batch_norm, validation_losses
from zoomldm.training.window import ExplosionWatch, Window

if TYPE_CHECKING:
    from zoomldm.runs.run import Run
    from zoomldm.tracking.base import Tracker

OnSample = Callable[[Trainable, int], Path | None]


@dataclass(frozen=True)
class FitResult:
    """What a call of `fit` came to; validation_loss is the last one measured."""

    step: int
    validation_loss: float | None
    finished: bool = True


def fit(
    trainable: Trainable,
    *,
    source: SampleSource,
    validation: SampleSource | None,
    curriculum: Curriculum,
    seed: int,
    optim: OptimSettings,
    loop: LoopSettings,
    fabric: Fabric,
    hardware: FabricSettings,
    run: Run,
    tracker: Tracker | None = None,
    on_sample: OnSample | None = None,
) -> FitResult:
    """Train until `loop.steps`, or until a signal; go on from the run's newest whole checkpoint.

    source and validation: samples of the training split and of held-out patients (None: no validation).
    on_sample: called in the first process at sampling intervals and at the end, with the averaged weights in place; a
    file that it returns goes to the tracker.

    Raises:
        UserError: the loss is no number or explodes, memory or disk is short; the message says what to do.
        Preempted: a signal asked the run to stop; everything is saved, and the process should end.
    """
    job = _Job(trainable, source, validation, curriculum, seed, optim, loop, fabric, hardware, run, tracker, on_sample)
    with Preemption(fabric, loop.preempt_every) as preemption, run.in_progress(fabric.global_rank == 0):
        step = job.resume()
        batches = job.batches(step)
        stop = step >= loop.steps
        while not stop:
            torch.manual_seed(_step_seed(seed, step, fabric.global_rank))
            for micro_step in range(job.partition.accumulation):
                batch = job.perf.waited(batches).to(fabric.device, non_blocking=True)
                with fabric.no_backward_sync(job.model, enabled=micro_step < job.partition.accumulation - 1):
                    job.backward(batch)
            job.update(step)
            step += 1
            finished = step == loop.steps
            stop = preemption.agreed(step) or finished
            if step % loop.log_every == 0 or finished:
                job.report(step)
            job.do_what_is_due(step, stop=stop, finished=finished)
        if fabric.global_rank == 0:
            run.update(status="finished" if step >= loop.steps else "stopped")
            if tracker is not None:
                tracker.sync()
        if step < loop.steps:
            preemption.pass_on()
            raise Preempted()
    return FitResult(step, job.validation_loss)


class _Job:
    """What `fit` holds while it runs, and the parts of a step."""

    def __init__(
        self,
        trainable: Trainable,
        source: SampleSource,
        validation: SampleSource | None,
        curriculum: Curriculum,
        seed: int,
        optim: OptimSettings,
        loop: LoopSettings,
        fabric: Fabric,
        hardware: FabricSettings,
        run: Run,
        tracker: Tracker | None,
        on_sample: OnSample | None,
    ) -> None:
        self.trainable, self.source, self.validation = trainable, source, validation
        self.seed, self.optim, self.loop, self.fabric, self.hardware = seed, optim, loop, fabric, hardware
        self.run, self.tracker, self.on_sample = run, tracker, on_sample
        self.ladder = source.ladder
        self.is_first = fabric.global_rank == 0
        self.partition = _partition(optim, fabric)
        self.sequence = GlobalSequence(
            seed=seed,
            curriculum=curriculum,
            counts=source.counts,
            global_batch=optim.batch_size,
            shard_sizes=source.shard_sizes if source.remote else None,
        )
        self.trained_rungs = np.flatnonzero(curriculum.probabilities(max(0, loop.steps - 1)) > 0)
        trainable.to(fabric.device).train()
        if hardware.chosen("channels_last"):
            trainable.to(memory_format=torch.channels_last)
        flops = (
            _count_flops(trainable, source, self.trained_rungs, fabric, seed) if fabric.device.type == "cuda" else None
        )
        if hardware.chosen("compile"):
            compile_parts(trainable)
        self.ema = Ema(trainable, optim.ema_decay)
        self.model = fabric.setup_module(trainable)
        self.optimizer = fabric.setup_optimizers(build_optimizer(trainable, optim))
        self.window = Window(loop.log_every, self.ladder, fabric.device)
        self.explosion = ExplosionWatch(loop.explosion_factor)
        self.checkpoints = Checkpoints(run.folder / "checkpoints", keep_last=loop.keep_last, keep_every=loop.keep_every)
        self.perf = PerfMeter(
            run.folder / "perf.jsonl" if self.is_first else None,
            device=fabric.device,
            devices=fabric.world_size,
            flops_per_image=flops,
        )
        self.validation_loss: float | None = None
        self._say(_plan(optim, self.partition, fabric))

    # --- the parts of a step ------------------------------------------------------------------------------------------

    def batches(self, step: int) -> Iterator[Batch]:
        """Begin the loader at `step`."""
        return iter(
            TrainLoader(
                self.source,
                self.sequence,
                self.partition,
                start_step=step,
                end_step=self.loop.steps,
                num_workers=self.hardware.workers,
                pin_memory=self.fabric.device.type == "cuda",
            )
        )

    def backward(self, batch: Batch) -> None:
        """Add one micro-batch's share of the gradient of the global batch's mean loss."""
        try:
            outputs = self.model(batch, self.seed)
            self.fabric.backward(outputs["loss_per_sample"].mean() / self.partition.accumulation)
        except torch.OutOfMemoryError as error:
            raise UserError(self._out_of_memory(batch)) from error
        self.window.add(outputs, batch.rung)

    def update(self, step: int) -> None:
        """Clip, step the optimiser and move the averages."""
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.optim.clip_norm or float("inf"), error_if_nonfinite=False
        )
        set_learning_rate(self.optimizer, learning_rate(self.optim, step, self.loop.steps))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(step)
        self.window.end_step(norm)
        self.perf.end_step(self.partition.global_batch)

    def report(self, step: int) -> None:
        """Write the window's metrics, stop if they show a failed run, and show the speed."""
        self.window.check(self.fabric, step, self._last_good())
        metrics = self.window.report(self.fabric) | {"lr": learning_rate(self.optim, step - 1, self.loop.steps)}
        by_rung = {name: value for name, value in metrics.items() if name.startswith("loss/")}
        worst = max(by_rung, key=by_rung.get).removeprefix("loss/")
        self.explosion.see(metrics["loss"], step, worst, self._last_good())
        self._write(step, metrics)
        figures = self.perf.report(step, self.loop.steps)
        mfu = f"  MFU {figures['mfu']:.0%}" if figures["mfu"] else ""
        self._say(
            f"step {step}/{self.loop.steps}  loss {metrics['loss']:.4f}  {figures['images_per_s']:.0f} images/s"
            f"  waiting for data {figures['loader_wait']:.0%}{mfu}  {duration(figures['remaining_s'])} left"
        )

    def do_what_is_due(self, step: int, *, stop: bool, finished: bool) -> None:
        """Validate, sample and save, all under the averaged weights, where the intervals or the end ask for it."""
        validate = self.validation is not None and (_due(step, self.loop.validate_every) or finished)
        sample = bool(self.loop.sample_every) and (_due(step, self.loop.sample_every) or finished)
        save = _due(step, self.loop.checkpoint_every) or stop
        if not (validate or sample or save):
            return
        self.perf.pause()
        if save and self.window.filled:
            self.window.check(self.fabric, step, self._last_good())
        with self._averaged():
            loss = self._validate(step) if validate else None
            if sample and self.is_first and self.on_sample is not None:
                picture = self.on_sample(self.trainable, step)
                if picture is not None and self.tracker is not None:
                    self.tracker.artifact(picture)
            model = _copied(self.trainable.sampling_model().state_dict()) if save and self.is_first else {}
        if save:
            self._save(step, model, loss)
        self.perf.go_on()

    # --- going on -----------------------------------------------------------------------------------------------------

    def resume(self) -> int:
        """Load the newest whole checkpoint and return its step, 0 where there is none."""
        self.fabric.barrier()
        info = self.checkpoints.newest_whole()
        self.fabric.barrier()
        step = 0 if info is None else info.step
        if self.is_first:
            self.run.metrics.truncate(step)
        if info is None:
            return 0
        state = self.checkpoints.load_state(step, self.fabric.device)
        self.trainable.load_extra_state(info.extra_state)
        self.trainable.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.window.load_state_dict(state["window"], self.fabric)
        self.explosion.load_state_dict(state["explosion"])
        self.validation_loss = state["validation_loss"]
        self._say(f"going on from step {step} of {self.loop.steps}")
        now = (self.fabric.world_size, self.partition.micro_batch)
        if (info.world_size, info.micro_batch) != now:
            self._say(
                f"{info.world_size} × {info.micro_batch} samples at once before, {now[0]} × {now[1]} now: the same "
                "samples and noise, but sums in another order and batch norm over other parts of the global batch, so "
                "no longer the same bits"
            )
        return step

    def _save(self, step: int, model: dict[str, Tensor], validation_loss: float | None) -> None:
        state = {
            "step": step,
            "model": self.trainable.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "window": self.window.state_dict(self.fabric),
            "explosion": self.explosion.state_dict(),
            "validation_loss": self.validation_loss,
        }
        if self.is_first:
            seen = self.sequence.position(step)
            info = CheckpointInfo(
                kind=self.trainable.kind,
                step=step,
                extra_state=self.trainable.extra_state(),
                samples_seen={self.ladder[k].label: int(seen[k]) for k in range(len(self.ladder))},
                validation_loss=validation_loss,
                world_size=self.fabric.world_size,
                micro_batch=self.partition.micro_batch,
            )
            self.checkpoints.save(info, state, model)
            self.run.update(step=step)
        self.fabric.barrier()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Put the averaged weights in place, with batch norm's statistics measured under them; undo both at the end."""
        buffers = _copied(dict(self.trainable.named_buffers()))
        self.trainable.eval()
        with self.ema.applied(), torch.no_grad():
            refreshed_batch_norm(
                self.trainable,
                source=self.source,
                rungs=self.trained_rungs,
                num_samples=self.loop.recalibration_samples,
                partition=self.partition,
                seed=self.seed,
                fabric=self.fabric,
            )
            yield
            for name, buffer in self.trainable.named_buffers():
                buffer.copy_(buffers[name])
        self.trainable.train()

    def _validate(self, step: int) -> float:
        losses = validation_losses(
            self.trainable,
            source=self.validation,
            rungs=self.trained_rungs,
            num_samples=self.loop.validation_samples,
            batch_size=self.partition.micro_batch,
            seed=self.seed,
            fabric=self.fabric,
        )
        self.validation_loss = sum(losses.values()) / len(losses)
        by_label = {f"validation/loss/{self.ladder[k].label}": loss for k, loss in losses.items()}
        self._write(step, {"validation/loss": self.validation_loss, **by_label})
        self._say(f"step {step}/{self.loop.steps}  validation loss {self.validation_loss:.4f}")
        return self.validation_loss

    # --- words --------------------------------------------------------------------------------------------------------

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        if self.is_first:
            self.run.metrics.write(step, metrics)
            if self.tracker is not None:
                self.tracker.notify()

    def _say(self, line: str) -> None:
        if self.is_first:
            print(f"[{self.run.name}] {line}", flush=True)

    def _last_good(self) -> str:
        steps = self.checkpoints.steps()
        return f"the last good checkpoint is step {steps[-1]}" if steps else "there is no checkpoint yet"

    def _out_of_memory(self, batch: Batch) -> str:
        fits = _largest_that_fits(self.trainable, batch, self.seed, self.partition, self.fabric)
        advice = f"optim.max_micro_batch={fits} fits" if fits else "not even one sample fits; choose a smaller model"
        return (
            f"out of memory on {self.fabric.device} with {self.partition.micro_batch} samples at once; {advice} "
            f"(the global batch stays {self.partition.global_batch}, accumulated)"
        )


def compile_parts(trainable: Trainable) -> None:
    """Compile the networks of fixed input shape in place: those that a trainable names in `compiled_parts`."""
    for name in trainable.compiled_parts:
        trainable.get_submodule(name).compile()


def _partition(optim: OptimSettings, fabric: Fabric) -> Partition:
    return partition(
        optim.batch_size, max_micro_batch=optim.max_micro_batch, world_size=fabric.world_size, rank=fabric.global_rank
    )


def _plan(optim: OptimSettings, part: Partition, fabric: Fabric) -> str:
    scaled = "" if optim.lr_scale == "none" else f" ({optim.lr_scale} scaling of {optim.lr:g})"
    return (
        f"global batch {part.global_batch} = {part.world_size} process{'es' if part.world_size > 1 else ''} × "
        f"{part.accumulation} accumulated × {part.micro_batch}; learning rate {optim.peak_lr:g}{scaled}; "
        f"{fabric.device.type}, {fabric._precision.precision}"
    )


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % every == 0


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of torch's own generators for a step (dropout layers, whatever is not keyed by sample)."""
    return int(mix64(seed % (1 << 63), np.array([step * 65536 + rank]))[0] >> np.uint64(1))


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _count_flops(
    trainable: Trainable, source: SampleSource, rungs: np.ndarray, fabric: Fabric, seed: int
) -> float | None:
    index = np.zeros(len(rungs), np.int64)
    trainable.eval()  # a probe must leave running statistics and the codebook's clock as they are
    try:
        batch = source.read(rungs, index).to(fabric.device)
        with fabric.autocast():
            return count_flops_per_image(trainable, batch, seed)
    except (RuntimeError, NotImplementedError):
        return None  # an operator that the counter cannot follow: no MFU is shown
    finally:
        trainable.train()


def _largest_that_fits(trainable: Trainable, batch: Batch, seed: int, part: Partition, fabric: Fabric) -> int | None:
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
