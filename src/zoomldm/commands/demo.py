"""The demo: the commands that a user would type for real data, one after the other, at the scale of minutes.

Each command goes on where it stopped and does nothing that is done, so this module keeps no state of its own.
"""

import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import ConfigError, UserError


@dataclass(frozen=True)
class Stage:
    """One command of the demo; ``argv`` follows ``python``."""

    title: str
    argv: tuple[str, ...]

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.argv])


def stages(name: str = "demo", *, slides: str | None = None, mpp: float | None = None) -> list[Stage]:
    """Return the demo's stages for a data set called ``name``.

    Args:
        slides: a folder of real slides; None lets the preparation draw its own.
        mpp: scale of slides that do not say theirs.
    """
    data = ("data=demo",) if name == "demo" else ("data=demo", f"data.name={name}")
    own = tuple(word for word in (slides and f"slides={slides}", mpp and f"slide.mpp={mpp:g}") if word)
    return [
        Stage("slides to shards", ("data_prep/prepare.py", *data, *own)),
        Stage("autoencoder", ("src/train.py", "model=autoencoder_tiny", *data)),
        Stage("latents", ("data_prep/latents.py", *data, f"autoencoder.run=autoencoder_tiny-{name}")),
        Stage("ZoomLDM", ("src/train.py", "model=zoomldm_tiny", *data)),
        Stage("embedding diffusion model", ("src/train.py", "model=edm_tiny", *data)),
        Stage("evaluation and report", ("src/evaluate.py", *data, f"run=zoomldm_tiny-{name}-film")),
    ]


def say_defaults(jobs: list) -> None:
    """Say, on the first line, that the demo's model and data were meant where nobody named others."""
    words = [word.split("=")[0] for word in sys.argv[1:]]
    if not {"model", "data"} & set(words) and jobs:
        cfg = jobs[0].cfg
        print(
            f"model={cfg.model.name} data={cfg.data.name}: the defaults, at the scale of minutes; "
            "the paper's are model=zoomldm data=brca_8mag"
        )


def make_what_is_missing(jobs: list) -> None:
    """Run the stages of the demo that jobs on ``data=demo`` stand on and that are not done.

    Only for the demo's own data under its default names: what a user prepared is never made behind their back.
    """
    needed = 0
    for cfg in (job.cfg for job in jobs):
        if cfg.data.name == "demo" and cfg.data.slides is None:
            of_default_runs = cfg.model.kind != "zoomldm" or cfg.autoencoder.run == "autoencoder_tiny-demo"
            depth = {"autoencoder": 1, "zoomldm": 3, "edm": 4}[cfg.model.kind]
            edm_ready = cfg.model.kind != "edm" or cfg.zoomldm.run == "zoomldm_tiny-demo-film"
            own_job = any(job.cfg.model.kind == "zoomldm" for job in jobs)
            if of_default_runs:
                needed = max(needed, depth if edm_ready and not own_job else min(depth, 3))
    if not needed:
        return
    cfg = jobs[0].cfg
    for stage, done in zip(stages()[:needed], _done(Path(cfg.data.root), Path(cfg.paths.runs))):
        if not done():
            print(f"missing: {stage.title}; making it first\n$ {stage.command}", flush=True)
            run_stage(stage)


def _done(root: Path, runs: Path) -> list:
    """Return, for each stage that a training can stand on, a question whether it is done."""
    from zoomldm.data.manifest import MANIFEST_NAME, Manifest
    from zoomldm.runs.run import Run

    return [
        lambda: (root / MANIFEST_NAME).is_file(),
        lambda: Run(runs / "autoencoder_tiny-demo").finished,
        lambda: "latent" in Manifest.load(root).columns,
        lambda: Run(runs / "zoomldm_tiny-demo-film").finished,
    ]


def run_demo(cfg) -> None:
    """Run every stage and print what each took; stop at the first that fails.

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
    todo = stages(name, slides=slides, mpp=cfg.mpp)
    for number, stage in enumerate(todo, 1):
        print(f"\n[{number}/{len(todo)}] {stage.title}\n$ {stage.command}", flush=True)
        took_s[stage.title] = run_stage(stage)
    print("\nwhat each stage took")
    for title, elapsed_s in [*took_s.items(), ("together", sum(took_s.values()))]:
        print(f"  {title:<28} {elapsed_s:7.1f} s")
    print(f"the report: {Path(cfg.paths.runs) / f'zoomldm_tiny-{name}-film' / 'report' / 'index.html'}")


def run_stage(stage: Stage) -> float:
    """Run one stage in the repository's root with this interpreter; return the seconds it took.

    Raises:
        UserError: it failed; its own message is above.
    """
    began = time.monotonic()
    done = subprocess.run([sys.executable, *stage.argv], cwd=PROJECT_ROOT)
    if done.returncode != 0:
        raise UserError(
            f"stage {stage.title!r} ended with code {done.returncode} (its message is above); mend that and run the "
            "same command again: it goes on there"
        )
    return time.monotonic() - began
