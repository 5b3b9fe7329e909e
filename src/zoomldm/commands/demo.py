"""The demo: slides to a report at the scale of minutes, and what a training on its data needs made first."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.job import plain
from zoomldm.commands.steps import DRAWN, LATENTS, SHARDS, Step, run_step, run_steps, steps_of
from zoomldm.commands.train import run_name_of
from zoomldm.errors import ConfigError
from zoomldm.launch.settings import FabricSettings, check_devices

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.composing import Job


ROWS = ("halves", "held_out", "reconstructions", "oracle", "shipped", "generated", "shuffled")
"""Of the demo's evaluation: the model that ships, so that minutes stand beside hours, in place of the untrained one."""


def steps(name: str = "demo", *, slides: str | None = None, mpp: float | None = None) -> list[Step]:
    """Return the demo's steps for a data set called ``name``.

    Args:
        slides: a folder of real slides; None lets the preparation draw its own.
        mpp: scale of slides that do not say theirs.
    """
    data = ("data=demo",) if name == "demo" else ("data=demo", f"data.name={name}")
    own = tuple(word for word in (slides and f"slides={slides}", mpp and f"slide.mpp={mpp:g}") if word)
    *before, evaluation = steps_of("tiny", name, data=data, own=own)
    return [*before, replace(evaluation, argv=(*evaluation.argv, f"rows=[{','.join(ROWS)}]"))]


def on_this_machine(todo: Sequence[Step]) -> list[Step]:
    """Let all cores compute where there is no GPU: two processes are faster than one of two threads.

    The U-Net is trained in bf16 where the CPU multiplies it in hardware.
    """
    import torch

    if torch.cuda.is_available() or len(os.sched_getaffinity(0)) < 2:
        return list(todo)
    bf16 = ("fabric.precision=bf16-mixed",) if _multiplies_bf16(Path("/proc/cpuinfo")) else ()
    alone = {SHARDS, LATENTS}
    return [
        step
        if step.makes in alone
        else replace(step, argv=(*step.argv, "fabric=ddp", *(bf16 if step.title == "ZoomLDM" else ())))
        for step in todo
    ]


def _multiplies_bf16(cpuinfo: Path) -> bool:
    return cpuinfo.is_file() and "amx_bf16" in cpuinfo.read_text(encoding="utf-8", errors="replace")


def say_defaults(jobs: Sequence[Job]) -> None:
    """Say, on the first line, that the demo's model and data were meant where nobody named others."""
    words = [word.split("=")[0] for word in sys.argv[1:]]
    if not {"model", "data"} & set(words) and jobs:
        cfg = jobs[0].cfg
        print(
            f"model={cfg.model.name} data={cfg.data.name}: the defaults, at the scale of minutes; "
            "the paper's are model=zoomldm data=brca_8mag"
        )


def make_what_is_missing(jobs: Sequence[Job]) -> None:
    """Run the steps that jobs on data sets of ours (``DRAWN``) stand on and that are not done.

    Only for these under their own names: what a user prepared is never made behind their back.
    """
    made_here = {run_name_of(job.cfg, list(job.words)) for job in jobs}
    for job in jobs:
        cfg = job.cfg
        if cfg.data.name not in DRAWN or cfg.data.slides is not None:
            continue
        all_steps = steps() if cfg.data.name == "demo" else _steps_of_drawn(cfg.data.name)
        wanted = _stands_on(cfg, all_steps) - made_here
        last = max(number for number, step in enumerate(all_steps) if step.makes in wanted)
        places = tuple(word for word in job.words if word.startswith("paths."))
        for step in all_steps[: last + 1]:
            if not step.is_done(root=Path(cfg.data.root), runs=Path(cfg.paths.runs)):
                if len(jobs) == 1:
                    check_devices(FabricSettings(**plain(cfg.fabric)))  # before minutes are spent on what it stands on
                (step,) = on_this_machine([replace(step, argv=(*step.argv, *places))])
                print(f"missing: {step.title}; making it first\n$ {step.command}", flush=True)
                run_step(step)


def _steps_of_drawn(name: str) -> list[Step]:
    return steps_of("tiny", name, data=(f"data={name}",), own=("drop_images=true",))


def _stands_on(cfg: DictConfig, all_steps: Sequence[Step]) -> set[str]:
    """Return what a job needs of the steps' products, each of which needs those of the steps before."""
    wanted = {SHARDS}
    if cfg.plan:
        return wanted
    if cfg.zoomldm:
        wanted.add(cfg.zoomldm.run)
    elif cfg.autoencoder and not cfg.autoencoder.get("weights") and cfg.autoencoder.get("run") == all_steps[1].makes:
        wanted.add(LATENTS)
    return wanted


def run_demo(cfg: DictConfig) -> None:
    """Run every step and print what each took; stop at the first that fails.

    Raises:
        ConfigError: ``slides`` is no folder.
    """
    name, slides = "demo", None
    if cfg.slides is not None:
        folder = Path(cfg.slides).expanduser().resolve()
        if not folder.exists():
            raise ConfigError(f"slides={cfg.slides}: no such folder or file; give a folder with slides (SLIDES=folder)")
        slides = str(folder)
        name = "demo-" + re.sub(r"[^A-Za-z0-9]+", "_", folder.stem).strip("_")
    run_steps(on_this_machine(steps(name, slides=slides, mpp=cfg.mpp)))
    print(f"the report: {Path(cfg.paths.runs) / f'zoomldm_tiny-{name}-film' / 'report' / 'index.html'}")
