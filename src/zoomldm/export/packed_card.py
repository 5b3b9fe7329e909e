"""The model card of a packed model: what it is, how it was made, how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomldm.export.model_card import LIMITS, measured
from zoomldm.export.source import Source
from zoomldm.runs.records import read_lines
from zoomldm.runs.run import Run

PLACES = ("paths.", "tracking")
"""What the words of a command begin with that say where things lie; they are left out."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one of the models was trained; elapsed_s: None where no record says it."""

    command: str
    step: int
    elapsed_s: float | None
    hardware: str
    revision: str

    @classmethod
    def of(cls, run: Run) -> Training:
        """Read it from a run's records."""
        said = run.described()
        hardware: Mapping[str, Any] = said.get("hardware") or {}
        return cls(
            command=" ".join(["python", *(w for w in said.get("command", "?").split() if not w.startswith(PLACES))]),
            step=said["step"],
            elapsed_s=_elapsed_s(run.folder / "perf.jsonl"),
            hardware=", ".join(hardware.get("gpus") or []) or f"{hardware.get('cpus', '?')} CPU cores",
            revision=str(said.get("git_revision"))[:12] + (" and changes" if said.get("git_dirty") else ""),
        )


def _elapsed_s(path: Path) -> float | None:
    """Return the seconds of training that a perf.jsonl tells of; its clock begins anew in every session."""
    told = [one["elapsed_s"] for one in read_lines(path)]
    return sum(now for now, after in zip(told, [*told[1:], 0.0]) if after <= now) if told else None


def packed_card(
    source: Source, sha256: Mapping[str, str], *, sizes: Mapping[str, int], trainings: Sequence[Training]
) -> str:
    """Write the card.

    Args:
        sha256, sizes: hash and bytes of every weight file, by its name.
    """
    sections = [
        "# The model that ships",
        "Synthetic H&E patches at every magnification of the ladder, of slides that this repository draws: it shows "
        "what the code does, and knows no real tissue. Averaged weights in float16.",
        "```\npython src/sample.py model=reference magnification=5 n=16\n```",
        _trainings(trainings),
        *measured(source),
        LIMITS,
        "## Licence\n\nApache-2.0, as the repository: trained from scratch, on drawn slides alone.",
        "\n".join(["## Files", "", *(f"- `{name}`: {sizes[name]:,} bytes, sha256 `{sha256[name]}`" for name in sizes)]),
    ]
    return "\n\n".join(sections) + "\n"


def _trainings(trainings: Sequence[Training]) -> str:
    rows = ["## Training", "", "`make reference`, which runs", ""]
    rows += ["| command | step | hours | hardware | revision |", "|---|---|---|---|---|"]
    for one in trainings:
        hours = "" if one.elapsed_s is None else f"{one.elapsed_s / 3600:.2f}"
        rows.append(f"| `{one.command}` | {one.step:,} | {hours} | {one.hardware} | {one.revision} |")
    return "\n".join(rows)
