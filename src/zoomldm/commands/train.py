"""One job of train.py, from configuration to a finished run: data, model, loop, and (in a sweep) distances."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoomldm.build import curriculum_of, make_trainable, option_of, plain
from zoomldm.commands.job import option
from zoomldm.data.manifest import Manifest
from zoomldm.ladder import label
from zoomldm.runs.identity import default_run_name

STATISTICS_SAMPLES = 2048
"""Samples of the training mix by which the EDM's tokens are standardised."""


def run_name_of(cfg: Any, overrides: list[str]) -> str:
    """Return ``run_name`` if it is given, else the name that says what was chosen."""
    if cfg.run_name:
        return str(cfg.run_name)
    stem = [cfg.model.name, cfg.data.name]
    if cfg.model.kind != "autoencoder":
        stem.append(cfg.cond.name)
    if cfg.training.name == "single":
        stem.append(f"single-{label(float(cfg.training.magnification))}")
    return default_run_name(stem, overrides)


def train(cfg: Any, overrides: list[str], command: list[str]) -> None:
    """Train what the configuration says, going on where an earlier call stopped, and evaluate it where asked.

    Args:
        cfg: the job's resolved configuration.
        overrides: the job's overrides as typed, for its name.
        command: the command line that runs this job alone, for the processes of a multi-device run.
    """
    from zoomldm.launch.fabric import connected
    from zoomldm.launch.settings import FabricSettings
    from zoomldm.launch.supervise import needs_supervisor, supervise

    hardware = FabricSettings(**plain(cfg.fabric))
    cfg.run_name = run_name_of(cfg, overrides)
    if cfg.plan:
        show_preview(cfg)
        return
    if needs_supervisor(hardware):
        supervise(hardware, command)
    else:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cfg.paths.cache).absolute() / "inductor"))
        with connected(hardware) as fabric:
            _fit(cfg, hardware, fabric)
            if fabric.global_rank != 0:
                return
    if _evaluates_after(cfg):
        from zoomldm.commands.evaluation import evaluate_run

        evaluate_run(cfg)


def _evaluates_after(cfg: Any) -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from zoomldm.launch.processes import is_worker

    if cfg.model.kind == "autoencoder" or is_worker():
        return False
    if cfg.evaluation.after_training is not None:
        return bool(cfg.evaluation.after_training)
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def show_preview(cfg: Any) -> None:
    """Print what the run would see of each magnification, and draw it beside the runs."""
    from zoomldm.curriculum.preview import draw_preview, preview_table

    manifest = Manifest.load(cfg.data.root)
    curriculum = curriculum_of(cfg, manifest)
    steps = loop_settings(cfg, curriculum, manifest).steps
    size = cfg.optim.batch_size
    path = Path(cfg.paths.runs) / "plans" / f"{cfg.run_name}.png"
    print(preview_table(curriculum, manifest.ladder, steps=steps, global_batch=size))
    print(draw_preview(curriculum, manifest.ladder, steps=steps, global_batch=size, path=path, title=cfg.run_name))


def source_of(cfg: Any, manifest: Manifest, columns: tuple[str, ...], split: str) -> Any:
    """Return the samples of a split, from wherever ``paths`` says; training ones are augmented as the job says."""
    from zoomldm.data.reader import SampleSource
    from zoomldm.data.remote import remote_shards

    remote = None
    if cfg.paths.remote:
        max_bytes = int(cfg.paths.remote_gb * 1e9)
        remote = remote_shards(manifest, cfg.paths.remote, cache=Path(cfg.paths.cache), max_bytes=max_bytes)
    augmented = plain(cfg.training.augment) if split == "train" else ()
    return SampleSource(manifest, split=split, columns=columns, augmented=augmented, remote=remote)


def _fit(cfg: Any, hardware: Any, fabric: Any) -> None:
    """Run the loop, unless the run has come to its end before."""
    from zoomldm.stages.pictures import make_pictures
    from zoomldm.tracking.base import Tracker
    from zoomldm.training.loop import TrainingData, fit
    from zoomldm.training.settings import OptimSettings

    manifest = Manifest.load(cfg.data.root)
    run = open_run(cfg, manifest)
    fabric.barrier()  # the first process has written run.json
    loop = loop_settings(cfg, curriculum_of(cfg, manifest), manifest)
    done = run.described()
    if done["status"] == "finished" and done["step"] >= loop.steps:
        if fabric.global_rank == 0:
            print(f"run {run.name}: finished at step {done['step']}; nothing to do (fresh=true starts anew)")
        return
    fabric.seed_everything(cfg.seed, verbose=False)
    trainable = make_trainable(cfg, manifest)
    manifest.check_columns(trainable.columns)
    source = source_of(cfg, manifest, trainable.columns, "train")
    source.check_files()
    curriculum = curriculum_of(cfg, manifest, source.counts)
    holds_out = any(manifest.count("test", m) for m in manifest.ladder.magnifications)
    validation = source_of(cfg, manifest, trainable.columns, "test") if holds_out else None
    if cfg.model.kind == "edm":
        _fit_token_statistics(trainable, source, curriculum, cfg, fabric)
    tracker = option(cfg, "tracking").make(Tracker) if fabric.global_rank == 0 else Tracker()
    tracker.follow(run)
    announce(cfg, run, trainable)
    pictures = None
    if loop.sample_every and fabric.global_rank == 0:
        pictures = make_pictures(cfg, manifest, run.folder / "samples", trainable, fabric.device)
    fit(
        trainable,
        data=TrainingData(source=source, validation=validation, curriculum=curriculum, seed=cfg.seed),
        optim=OptimSettings(**plain(cfg.optim)),
        loop=loop,
        fabric=fabric,
        hardware=hardware,
        run=run,
        tracker=tracker,
        on_sample=pictures,
    )


def loop_settings(cfg: Any, curriculum: Any, manifest: Manifest) -> Any:
    """Return the loop's settings; a single run matched by samples takes fewer or more steps than ``train.steps``."""
    from zoomldm.curriculum.base import Curriculum, steps_matched_by_samples
    from zoomldm.training.settings import LoopSettings

    settings = plain(cfg.train)
    if cfg.training.name == "single" and cfg.training.match == "samples":
        option = option_of(cfg, "curriculum", cfg.get("allow_code") or ())
        unified = option.make(Curriculum, counts=curriculum.counts, ladder=manifest.ladder)
        rung = manifest.ladder.rung_of(cfg.training.magnification).index
        settings["steps"] = steps_matched_by_samples(unified, settings["steps"], rung)
    return LoopSettings(**settings)


def open_run(cfg: Any, manifest: Manifest) -> Any:
    """Create the job's run or go on with it; the data set's identity counts only the columns that the model reads."""
    from zoomldm.runs.run import Run

    columns = {"autoencoder": ("image",), "zoomldm": ("latent", "grid"), "edm": ("grid",)}[cfg.model.kind]
    return Run.open(
        cfg.paths.runs,
        cfg.run_name,
        plain(cfg),
        kind=cfg.model.kind,
        fresh=cfg.fresh,
        manifest_sha256=manifest.identity(columns),
    )


def announce(cfg: Any, run: Any, trainable: Any) -> None:
    """Say in a few lines what is about to be trained."""
    from zoomldm.launch.processes import is_first_process

    if not is_first_process():
        return
    num_parameters = sum(parameter.numel() for _, parameter in trainable.trained_parameters())
    scope = "all magnifications" if cfg.training.name == "unified" else f"{cfg.training.magnification:g}x alone"
    print(f"run {run.name} in {run.folder}: {cfg.model.name}, {num_parameters / 1e6:.1f}M parameters, {scope}")


def _fit_token_statistics(trainable: Any, source: Any, curriculum: Any, cfg: Any, fabric: Any) -> None:
    """Standardise the EDM's tokens by the first samples of the training sequence, the same on every rank."""
    import numpy as np

    from zoomldm.data.order.sequence import GlobalSequence

    sequence = GlobalSequence(
        seed=cfg.seed, curriculum=curriculum, counts=source.counts, global_batch=cfg.optim.batch_size
    )
    size = min(64, cfg.optim.max_micro_batch)
    trainable.to(fabric.device)

    def batches():
        for first in range(0, STATISTICS_SAMPLES, size):
            draws = sequence.draws(np.arange(first, first + size))
            yield source.read(draws.rung, draws.index, draws.sample_number).to(fabric.device)

    trainable.fit_statistics(batches())
