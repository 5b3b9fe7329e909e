"""Commands that a user would type for real data, one after the other, from slides to a report.

Each command goes on where it stopped and does nothing that is done, so this module keeps no state of its own.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomldm.config import PROJECT_ROOT
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import UserError
from zoomldm.runs.run import Run

SHARDS, LATENTS = "shards", "latents"
DRAWN = ("demo", "pyramid")
"""Data sets that we draw and whose shards, autoencoder and latents a training makes first, where they are missing."""


@dataclass(frozen=True)
class Step:
    """One command.

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


def runs_of(scale: str, name: str) -> tuple[str, str, str]:
    """Return the names of the three runs of a scale's models on a data set: autoencoder, ZoomLDM, EDM."""
    return f"autoencoder_{scale}-{name}", f"zoomldm_{scale}-{name}-film", f"edm_{scale}-{name}-film"


def steps_of(scale: str, name: str, *, data: Sequence[str], own: Sequence[str] = ()) -> list[Step]:
    """Return the steps from slides to a report.

    Args:
        scale: what the names of the models end with: ``tiny``.
        name: of the data set; data: the words that say which it is; own: those of its preparation alone.
    """
    autoencoder, zoomldm, edm = runs_of(scale, name)
    return [
        Step("slides to shards", ("data_prep/prepare.py", *data, *own), SHARDS),
        Step("autoencoder", ("src/train.py", f"model=autoencoder_{scale}", *data), autoencoder),
        Step("latents", ("data_prep/latents.py", *data, f"autoencoder.run={autoencoder}"), LATENTS),
        Step("ZoomLDM", ("src/train.py", f"model=zoomldm_{scale}", *data), zoomldm),
        Step("embedding diffusion model", ("src/train.py", f"model=edm_{scale}", *data), edm),
        Step("evaluation and report", ("src/evaluate.py", *data, f"run={zoomldm}"), "report"),
    ]


def run_steps(todo: Sequence[Step]) -> None:
    """Run every step and print what each took; stop at the first that fails."""
    took_s: dict[str, float] = {}
    for number, step in enumerate(todo, 1):
        print(f"\n[{number}/{len(todo)}] {step.title}\n$ {step.command}", flush=True)
        took_s[step.title] = run_step(step)
    print("\nwhat each stage took")
    for title, elapsed_s in [*took_s.items(), ("together", sum(took_s.values()))]:
        print(f"  {title:<28} {elapsed_s:7.1f} s")


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
