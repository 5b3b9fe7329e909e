"""Where a run began when it did not begin at nothing: a checkpoint of another run (``from=RUN@STEP``).

Nothing here imports torch, so that a mistake is said at once.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.runs.identity import differing_keys
from zoomldm.runs.lineage import ORIGIN
from zoomldm.runs.run import Run, checkpoint_steps, find_run

KEY = ORIGIN
"""The key of the configuration, the fact of run.json and the name of the parent in checkpoints are the same word."""

NETWORK = ("model.", "unet.", "cond.", "encoder.", "data.ladder.")
"""Sections that say which network is trained."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A checkpoint of another run.

    Attributes:
        run, step: which one; sha256: of its averaged weights, by which checkpoints name it as their parent.
    """

    run: str
    step: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.run}@{self.step}"


def find_origin(runs: str | Path, kind: str, text: str, *, own: str) -> Origin:
    """Return the checkpoint that ``from=RUN@STEP`` names, the run's newest for ``from=RUN``.

    Args:
        kind: of the run that begins there; own: its name.

    Raises:
        UserError: no such run or step, or a run of another kind; the message lists what there is.
    """
    name, at, wanted = text.rpartition("@") if "@" in text else (text, "", "")
    if at and not wanted.isdigit():
        raise UserError(f"{KEY}={text}: expected RUN or RUN@STEP, for example {KEY}={name or 'RUN'}@1000")
    if name == own:
        raise UserError(f"{KEY}={text}: is the run itself; name the new run with run_name=")
    try:
        run = find_run(runs, kind, name)
    except UserError as error:
        raise UserError(f"{KEY}={text}: {error}") from error
    steps = checkpoint_steps(run.folder / "checkpoints")
    if not steps or (wanted and int(wanted) not in steps):
        have = ", ".join(map(str, steps)) or "none"
        raise UserError(f"{KEY}={text}: no such checkpoint of run {name}; it has those of step {have}")
    step = int(wanted) if wanted else steps[-1]
    path = run.folder / "checkpoints" / f"step-{step:08d}" / "checkpoint.json"
    return Origin(run=name, step=step, sha256=json.loads(path.read_bytes())["sha256"]["model.safetensors"])


def recorded_origin(run: Run) -> Origin | None:
    """Return where a run began, None for one that began at nothing."""
    described = run.described().get(KEY)
    return Origin(**described) if described else None


def same_origin(origin: Origin, text: str) -> bool:
    """Say whether ``from=…`` names it; ``from=RUN`` does, however far that run has come since."""
    return text in (str(origin), origin.run)


def differing_networks(one: Path, other: Path) -> list[str]:
    """Say which settings of the network two runs' configurations have otherwise."""
    differing = differing_keys(Run(one).config, Run(other).config)
    return [f"{key} ({a} there, {b} now)" for key, (a, b) in differing.items() if key.startswith(NETWORK)]


def way_back(run_name: str, step: int | None, *, lr: float, words: Sequence[str]) -> str:
    """Say how to begin again before something went wrong, with half the learning rate.

    Args:
        step: of the last good checkpoint, None where there is none.
        words: the job's overrides as typed.
    """
    kept = [word for word in words if word.partition("=")[0].lstrip("+~") not in (KEY, "optim.lr", "run_name", "fresh")]
    if step is None:
        there, again = "there is no checkpoint yet: begin anew", [_override("run_name", run_name), "fresh=true"]
    else:
        there = f"the last good checkpoint is step {step}: begin a new run there"
        again = [_override(KEY, f"{run_name}@{step}"), _override("run_name", f"{run_name}-from-{step}")]
    command = " ".join(map(_quoted, ["python", "src/train.py", *kept, *again, f"optim.lr={lr / 2:g}"]))
    return f"{there} with a lower rate: `{command}`"


def _quoted(word: str) -> str:
    """Quote a word for the shell, and in the way that is easiest to read where it holds quotes of Hydra's."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _override(key: str, value: str) -> str:
    """Return an override; Hydra wants quotes around a value with an equals sign, which default names may hold."""
    return f"{key}='{value}'" if "=" in value else f"{key}={value}"
