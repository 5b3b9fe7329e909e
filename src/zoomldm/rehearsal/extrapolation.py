"""What the whole job would take on this machine, from what its rehearsal took.

Training is told by its own records (perf.jsonl), the rest by counted multiply-adds: those of the full job over the rate
at which the rehearsal went through its own. Start-up counts as work there, so a short rehearsal says too much and not
too little.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GMACS = {"unet": 105.3, "encode": 172.6, "decode": 335.3, "summarizer": 4.43, "edm": 5.74, "tile": 6.14}
"""Multiply-adds of one forward pass and sample, in units of 1e9 (`python src/weights.py --summary`)."""
PAPER_TILES, PAPER_PATCHES = 12_000_000, 16_022_500
PAPER_SAMPLES, PAPER_RUNGS, PAPER_SOLVER_STEPS = 10_000, 8, 50
FULL_TRAINING = {
    "zoomldm": (200_000, 600),
    "zoomldm_zoom": (50_000, 600),
    "edm": (100_000, 256),
    "edm_zoom": (100_000, 256),
}
"""Steps and global batch of each option of conf/model."""


@dataclass(frozen=True)
class Estimate:
    """`seconds` of a full job on this machine, and `of` what it is made."""

    seconds: float
    of: str


def training_estimate(model: str, perf: Path, *, cells: int = 1) -> Estimate | None:
    """Estimate a full training from a run's perf.jsonl; None where it holds no rate.

    Args:
        cells: how many such trainings a sweep has.
    """
    rates = [json.loads(line)["images_per_s"] for line in perf.read_text().splitlines()] if perf.is_file() else []
    if not rates or max(rates) <= 0:
        return None
    steps, batch = FULL_TRAINING[model]
    each = f"{steps:,} steps × {batch} images at {max(rates):.3g} images/s"
    return Estimate(cells * steps * batch / max(rates), f"{cells} × {each}" if cells > 1 else each)


def by_operations(seconds: float, *, done: float, full: float, of: str) -> Estimate | None:
    """Estimate a full job of ``full`` multiply-adds from ``done`` in ``seconds``; None where nothing was done."""
    return Estimate(seconds * full / done, of) if done > 0 else None


def sampling_gmacs(*, patches: int, steps: int, generated: bool) -> float:
    """Count the multiply-adds of guided sampling in units of 1e9: U-Net (and EDM) twice a step, one decoding."""
    passes = 2 * steps * (GMACS["unet"] + (GMACS["edm"] if generated else 0))
    return patches * (passes + GMACS["decode"] + GMACS["summarizer"])


def evaluation_estimate(seconds: float, *, patches: int, steps: int) -> Estimate | None:
    """Estimate the paper's evaluation, oracle and generated conditions, from one of `patches` a row."""

    def both(number: int, steps: int) -> float:
        return sum(sampling_gmacs(patches=number, steps=steps, generated=which) for which in (False, True))

    number = PAPER_SAMPLES * PAPER_RUNGS
    of = f"2 × {number:,} guided patches of {PAPER_SOLVER_STEPS} steps"
    return by_operations(seconds, done=both(patches, steps), full=both(number, PAPER_SOLVER_STEPS), of=of)


def preparation_estimate(seconds: float, counts: Mapping[str, int]) -> Estimate | None:
    """Estimate the preparation of the paper's slides.

    Args:
        counts: ``tiles`` that were encoded.
    """
    return by_operations(seconds, done=counts["tiles"], full=PAPER_TILES, of=f"{PAPER_TILES:,} tiles through HIPT")


def latents_estimate(seconds: float, counts: Mapping[str, int]) -> Estimate | None:
    """Estimate the latents of the paper's patches; counts: ``patches`` that were encoded."""
    return by_operations(seconds, done=counts["patches"], full=PAPER_PATCHES, of=f"{PAPER_PATCHES:,} patches encoded")
