"""How much disk and memory a rehearsal takes, computed before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.rehearsal.measure import memory_available
from zoomldm.rehearsal.plan import EXPORTED, MODEL, RESUMED, STAGES, TOKENS, TOLD, ZOOM
from zoomldm.rehearsal.scratch_weights import missing_files

ZOOMLDM_PARAMETERS, EDM_PARAMETERS, VQ_PARAMETERS = 406_400_000, 87_100_000, 55_300_000
CHECKPOINT_BYTES = 20
"""A parameter: value, average and Adam's two moments in state.pt, the average once more in model.safetensors."""
TRAINING_BYTES = 24
"""A parameter in memory: value, gradient, two moments, average, and a process's bucket of gradients."""
ACTIVATION_BYTES = 3_000_000_000
"""Of a step of two images, about; measured on a CPU."""
SLIDES_AND_SHARDS = 500_000_000


def disk_needed(weights: Path, scratch: Path, stages: Collection[str]) -> dict[str, int]:
    """Return the bytes of what these stages, by title, write at most at once, by what it is."""
    model, tokens = (CHECKPOINT_BYTES * number for number in (ZOOMLDM_PARAMETERS, EDM_PARAMETERS))
    parts = {
        MODEL: ("ZoomLDM", model),
        RESUMED: ("ZoomLDM, its second of two checkpoints while it resumes", model),
        TOKENS: ("EDM", tokens),
        ZOOM: ("zooming EDM", tokens),
        TOLD: (TOLD, model),
        EXPORTED: ("export", 4 * (ZOOMLDM_PARAMETERS + EDM_PARAMETERS + VQ_PARAMETERS)),
    }
    needed = {
        "slides, shards, logs": SLIDES_AND_SHARDS,
        "weights of random values": sum(one.size for one in missing_files(weights, scratch / "weights")),
    }
    needed |= dict(part for title, part in parts.items() if title in stages)
    if any(stage.drops and stage.title in stages for stage in STAGES):
        needed["a run of a sweep"] = model
    return needed


def check_disk(weights: Path, scratch: Path, stages: Collection[str] | None = None) -> str:
    """Say what disk is needed.

    Args:
        stages: titles of those that are rehearsed; None: all.

    Raises:
        UserError: there is less; the message says of what it is made.
    """
    parts = disk_needed(weights, scratch, stages or [stage.title for stage in STAGES])
    existing = next(path for path in (scratch, *scratch.resolve().parents) if path.exists())
    held = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file()) if scratch.exists() else 0
    free, needed = shutil.disk_usage(existing).free + held, sum(parts.values())
    said = f"disk: {needed / 1e9:.1f} GB needed in {scratch}, {free / 1e9:.1f} GB are free or its own"
    if needed > free:
        listed = "\n".join(f"  {size / 1e9:6.1f} GB  {what}" for what, size in parts.items())
        raise UserError(f"{said}:\n{listed}\nname a larger one: folder=/scratch/rehearsal")
    return said


def fits_twice() -> tuple[bool, str]:
    """Say whether two processes that train the U-Net fit in this machine's memory, and how much that is."""
    needed, available = 2 * (TRAINING_BYTES * ZOOMLDM_PARAMETERS + ACTIVATION_BYTES), memory_available()
    said = f"two processes of it take {needed / 1e9:.0f} GB" + (
        f", {available / 1e9:.0f} GB are free" if available is not None else ""
    )
    return available is None or needed <= available, said
