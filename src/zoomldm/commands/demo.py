"""The demo: the commands that a user would type for real data, one after the other, at the scale of minutes.

Each command goes on where it stopped and does nothing that is done, so this module keeps no state of its own.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.train import run_name_of
from zoomldm.config import PROJECT_ROOT
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import ConfigError, UserError
from zoomldm.runs.run import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.composing import Job


SHARDS, LATENTS = "shards", "latents"


@dataclass(frozen=True)
class Step:
    """One command of the demo.

    Attributes:
        argv: what follows ``python``.
        makes: `SHARDS`, `LATENTS`, or the name of a run.
    """

    title: str
    argv: tuple[str, ...]
    makes: str

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.argv])

    def is_done(self, *, root: Path, runs: Path) -> bool:
        """Say whether what it makes is there.

        Args:
            root: of the data set.
            runs: where runs lie.
        """
        if self.makes == SHARDS:
            return (root / MANIFEST_NAME).is_file()
        if self.makes == LATENTS:
            return "latent" in Manifest.load(root).columns
        return Run(runs / self.makes).finished


def steps(name: str = "demo", *, slides: str | None = None, mpp: float | None = None) -> list[Step]:
    """Return the demo's steps for a data set called ``name``.

    Args:
        slides: a folder of real slides; None lets the preparation draw its own.
        mpp: scale of slides that do not say theirs.
    """
    data = ("data=demo",) if name == "demo" else ("data=demo", f"data.name={name}")
    own = tuple(word for word in (slides and f"slides={slides}", mpp and f"slide.mpp={mpp:g}") if word)
    autoencoder, zoomldm, edm = f"autoencoder_tiny-{name}", f"zoomldm_tiny-{name}-film", f"edm_tiny-{name}-film"
    return [
        Step("slides to shards", ("data_prep/prepare.py", *data, *own), SHARDS),
        Step("autoencoder", ("src/train.py", "model=autoencoder_tiny", *data), autoencoder),
        Step("latents", ("data_prep/latents.py", *data, f"autoencoder.run={autoencoder}"), LATENTS),
        Step("ZoomLDM", ("src/train.py", "model=zoomldm_tiny", *data), zoomldm),
        Step("embedding diffusion model", ("src/train.py", "model=edm_tiny", *data), edm),
        Step("evaluation and report", ("src/evaluate.py", *data, f"run={zoomldm}"), "report"),
    ]


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
    """Run the steps of the demo that jobs on ``data=demo`` stand on and that are not done.

    Only for the demo's own data under its default names: what a user prepared is never made behind their back.
    """
    all_steps = steps()
    made_here = {run_name_of(job.cfg, list(job.words)) for job in jobs}
    for job in jobs:
        cfg = job.cfg
        if cfg.data.name != "demo" or cfg.data.slides is not None:
            continue
        wanted = _stands_on(cfg) - made_here
        last = max(number for number, step in enumerate(all_steps) if step.makes in wanted)
        places = tuple(word for word in job.words if word.startswith("paths."))
        for step in all_steps[: last + 1]:
            if not step.is_done(root=Path(cfg.data.root), runs=Path(cfg.paths.runs)):
                step = replace(step, argv=(*step.argv, *places))
                print(f"missing: {step.title}; making it first\n$ {step.command}", flush=True)
                run_step(step)


def _stands_on(cfg: DictConfig) -> set[str]:
    """Return what a job needs of the demo's products, each of which needs those of the steps before."""
    wanted = {SHARDS}
    if cfg.zoomldm:
        wanted.add(cfg.zoomldm.run)
    elif cfg.autoencoder and not cfg.autoencoder.get("weights") and cfg.autoencoder.get("run") == steps()[1].makes:
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
    took_s: dict[str, float] = {}
    todo = steps(name, slides=slides, mpp=cfg.mpp)
    for number, step in enumerate(todo, 1):
        print(f"\n[{number}/{len(todo)}] {step.title}\n$ {step.command}", flush=True)
        took_s[step.title] = run_step(step)
    print("\nwhat each stage took")
    for title, elapsed_s in [*took_s.items(), ("together", sum(took_s.values()))]:
        print(f"  {title:<28} {elapsed_s:7.1f} s")
    print(f"the report: {Path(cfg.paths.runs) / f'zoomldm_tiny-{name}-film' / 'report' / 'index.html'}")


def run_step(step: Step) -> float:
    """Run one step in the repository's root with this interpreter; return the seconds it took.

    Raises:
        UserError: it failed; its own message is above.
    """
    began = time.monotonic()
    done = subprocess.run([sys.executable, *step.argv], cwd=PROJECT_ROOT)
    if done.returncode != 0:
        raise UserError(
            f"stage {step.title!r} ended with code {done.returncode} (its message is above); mend that and run the "
            "same command again: it goes on there"
        )
    return time.monotonic() - began
