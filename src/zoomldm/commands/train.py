"""One job of train.py, from configuration to a finished run: data, stage, loop, and (in a sweep) distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.check import stage_in
from zoomldm.commands.devices import on_devices
from zoomldm.commands.job import is_job_of_sweep, option, plain
from zoomldm.commands.objective import mean_distance, validation_loss
from zoomldm.commands.training_data import curriculum_of, first_batches, training_data, unified_curriculum
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, UserError
from zoomldm.ladder import label
from zoomldm.launch.processes import is_first_process, is_worker
from zoomldm.launch.settings import FabricSettings
from zoomldm.runs.identity import default_run_name, name_in_use
from zoomldm.runs.origin import find_origin, recorded_origin, same_origin
from zoomldm.stages.base import Stage
from zoomldm.training.settings import LoopSettings, OptimSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.curriculum.base import Curriculum
    from zoomldm.model.trainable import Trainable
    from zoomldm.runs.origin import Origin
    from zoomldm.runs.run import Run
    from zoomldm.training.due import OnSample


def run_name_of(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """Return ``run_name`` if it is given, else the name that says what was chosen."""
    if cfg.run_name:
        return str(cfg.run_name)
    stem = list(stage_in(cfg).stem)
    if cfg.training.name == "single":
        stem.append(f"single-{label(float(cfg.training.magnification))}")
        stem += ["samples"] if cfg.training.match == "samples" else []
    return name_in_use(Path(cfg.paths.runs), default_run_name(stem, overrides))


def train(cfg: DictConfig, overrides: Sequence[str], command: Sequence[str]) -> float | None:
    """Train what the configuration says, going on where an earlier call stopped, and evaluate it where asked.

    Returns what a search minimises: the mean distance over the magnifications, of what was evaluated; else the last
    validation loss; None where there is neither.

    Args:
        cfg: the job's resolved configuration.
        overrides: the job's overrides as typed, for its name.
        command: the command line that runs this job alone, for the processes of a multi-device run.
    """
    hardware, stage = FabricSettings(**plain(cfg.fabric)), stage_in(cfg)
    cfg.run_name = run_name_of(cfg, overrides)
    if cfg.zoomldm:
        cfg.zoomldm.run = name_in_use(Path(cfg.paths.runs), cfg.zoomldm.run)
    if cfg.plan:
        show_preview(cfg)
        return None

    def work(fabric: Fabric) -> None:
        _train(cfg, stage, hardware, fabric, overrides)

    on_devices(hardware, work, command=command, cache=cfg.paths.cache)
    if not is_first_process():
        return None
    judged = stage.judged(cfg.run_name)
    if judged is not None and _evaluates_after(cfg):
        from zoomldm.commands.evaluate import run_after_training

        return mean_distance(run_after_training(cfg, judged))
    return validation_loss(Path(cfg.paths.runs) / cfg.run_name)


def show_preview(cfg: DictConfig) -> None:
    """Print what the run would see of each magnification, and draw it beside the runs."""
    from zoomldm.curriculum.preview import draw_preview, preview_table

    manifest = Manifest.load(cfg.data.root)
    curriculum = curriculum_of(cfg, manifest)
    steps = loop_settings(cfg, curriculum, manifest).steps
    size = cfg.optim.batch_size
    path = Path(cfg.paths.runs) / "plans" / f"{cfg.run_name}.png"
    print(preview_table(curriculum, manifest.ladder, steps=steps, global_batch=size))
    print(draw_preview(curriculum, manifest.ladder, steps=steps, global_batch=size, path=path, title=cfg.run_name))


def loop_settings(cfg: DictConfig, curriculum: Curriculum, manifest: Manifest) -> LoopSettings:
    """Return the loop's settings; a single run matched by samples takes fewer or more steps than ``train.steps``."""
    from zoomldm.curriculum.base import steps_matched_by_samples

    settings = LoopSettings(**plain(cfg.train))
    if cfg.training.name != "single" or cfg.training.match != "samples":
        return settings
    unified = unified_curriculum(cfg, manifest, curriculum.counts)
    rung = manifest.ladder.rung_of(cfg.training.magnification).index
    return replace(settings, steps=steps_matched_by_samples(unified, settings.steps, rung))


def _train(cfg: DictConfig, stage: Stage, hardware: FabricSettings, fabric: Fabric, overrides: Sequence[str]) -> None:
    """Run the loop, unless the run has come to its end before."""
    from zoomldm.tracking.base import Tracker
    from zoomldm.training.loop import fit

    manifest = Manifest.load(cfg.data.root)
    parents = stage.parents(manifest)
    manifest.check_columns(stage.columns)
    run = _opened(cfg, stage, manifest, parents)
    fabric.barrier()  # the first process has written run.json
    loop, origin = loop_settings(cfg, curriculum_of(cfg, manifest), manifest), recorded_origin(run)
    if origin is not None and loop.steps <= origin.step:
        raise UserError(f"from={origin}: train.steps={loop.steps} lies not beyond it; give a higher train.steps")
    if _is_done(run, loop.steps, parents):
        if fabric.global_rank == 0:
            print(f"run {run.name}: finished at step {run.described()['step']}; nothing to do (fresh=true starts anew)")
        return
    fabric.seed_everything(cfg.seed, verbose=False)
    trainable = stage.build(manifest)
    data = training_data(cfg, manifest, trainable.columns)
    stage.prepare(trainable.to(fabric.device), first_batches(cfg, data, fabric))
    if fabric.global_rank == 0:
        announce(cfg, run, trainable)
    on_sample = _pictures(cfg, stage, trainable, manifest, run, fabric) if loop.sample_every else None
    tracker = option(cfg, "tracking").make(Tracker) if fabric.global_rank == 0 else Tracker()
    with tracker.following(run):
        fit(
            trainable,
            data=data,
            optim=OptimSettings(**plain(cfg.optim)),
            loop=loop,
            fabric=fabric,
            hardware=hardware,
            run=run,
            parents=parents,
            origin=origin,
            words=overrides,
            tracker=tracker,
            on_sample=on_sample,
        )


def _opened(cfg: DictConfig, stage: Stage, manifest: Manifest, parents: dict[str, str]) -> Run:
    """Create the job's run or go on with it; of the data set count only the columns that the model reads."""
    from zoomldm.runs.run import Run

    _refuse_another_length(cfg, Run(Path(cfg.paths.runs) / cfg.run_name))
    origin = _origin(cfg, stage)
    cfg["from"] = str(origin) if origin else None
    return Run.open(
        cfg.paths.runs,
        cfg.run_name,
        plain(cfg),
        kind=stage.kind,
        fresh=cfg.fresh,
        manifest_sha256=parents["data"],
        formerly=stage.former_identities(manifest),
        origin=asdict(origin) if origin else None,
    )


def _refuse_another_length(cfg: DictConfig, run: Run) -> None:
    """Refuse to go on with a run whose learning rate at every step is a function of ``train.steps``, if that changed.

    Raises:
        ConfigError: it did; the message says what the rate would do, and the command that does so in a run of its own.
    """
    from zoomldm.training.optim import learning_rate

    described = {} if cfg.fresh else run.described()
    step, now = described.get("step", 0), cfg.train.steps
    if not step or cfg.optim.schedule != "cosine" or (described["status"] == "finished" and now <= step):
        return
    before, optim = run.config["train"]["steps"], OptimSettings(**plain(cfg.optim))
    if before == now:
        return
    rates = [learning_rate(optim, step, steps) / optim.peak_lr for steps in (before, now)]
    raise ConfigError(
        f"run {run.name}: train.steps was {before} and is {now} now, and optim.schedule=cosine falls over all of them: "
        f"at step {step} the rate would jump from {rates[0]:.0%} to {rates[1]:.0%} of its peak, unlike in a run of "
        f"{now} from the start. Leave train.steps={before}, or do so in a new run: from={run.name}@{step} run_name=…"
    )


def _origin(cfg: DictConfig, stage: Stage) -> Origin | None:
    """Return the checkpoint that the run begins at, or began at: with ``from=RUN`` it stays the one that it was."""
    from zoomldm.runs.run import Run

    if not cfg["from"]:
        return None
    known = None if cfg.fresh else recorded_origin(Run(Path(cfg.paths.runs) / cfg.run_name))
    if known is not None and same_origin(known, str(cfg["from"])):
        return known
    return find_origin(cfg.paths.runs, stage.kind, str(cfg["from"]), own=cfg.run_name)


def _is_done(run: Run, steps: int, parents: dict[str, str]) -> bool:
    """Say whether a run has come to its end.

    Raises:
        UserError: it has, with other parents than those of now.
    """
    from zoomldm.runs.checkpoint import Checkpoints
    from zoomldm.runs.lineage import require_same_parents

    described, checkpoints = run.described(), Checkpoints(run.folder / "checkpoints")
    if described["status"] != "finished" or described["step"] < steps:
        return False
    if described["step"] in checkpoints.steps():
        require_same_parents(run.name, checkpoints.info(described["step"]).parents, parents)
    return True


def announce(cfg: DictConfig, run: Run, trainable: Trainable) -> None:
    """Say in a line what is about to be trained."""
    num_parameters = sum(parameter.numel() for _, parameter in trainable.trained_parameters())
    scope = "all magnifications" if cfg.training.name == "unified" else f"{cfg.training.magnification:g}x alone"
    print(f"run {run.name} in {run.folder}: {cfg.model.name}, {num_parameters / 1e6:.1f}M parameters, {scope}")


def _pictures(
    cfg: DictConfig, stage: Stage, trainable: Trainable, manifest: Manifest, run: Run, fabric: Fabric
) -> OnSample | None:
    from zoomldm.sampling.compute import Compute

    if fabric.global_rank != 0:
        return None
    compute = Compute(device=fabric.device, autocast=FabricSettings(**plain(cfg.fabric)).autocast)
    return stage.pictures(trainable, manifest, folder=run.folder / "samples", seed=cfg.seed, compute=compute)


def _evaluates_after(cfg: DictConfig) -> bool:
    if is_worker():
        return False
    return is_job_of_sweep() if cfg.evaluation.after_training is None else bool(cfg.evaluation.after_training)
