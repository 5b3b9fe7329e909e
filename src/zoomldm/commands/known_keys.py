"""What is said about a key or value that a command has not: its new name, the command that takes it, the near match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from zoomldm.commands.schemas import script_of, takers
from zoomldm.errors import ConfigError, near_match

RENAMED: dict[str, str] = {
    "model.start": "model.network._target_",
    "model.arch": "model=edm_dit",
    "diffusion.num_timesteps": "schedule.num_timesteps",
    "diffusion.beta_start": "schedule.beta_start",
    "diffusion.beta_end": "schedule.beta_end",
    "evaluation.rows": "rows",
    "device": "fabric (fabric=cpu, gpu, ddp)",
    "precision": "fabric.precision (32, bf16-mixed)",
    "conditions": "source (source=oracle, source=generated)",
    "split": "source.split (with source=oracle)",
    "data.tissue.preset": "tissue",
    "data.tissue.chroma_floor": "tissue.chroma_floor",
    "data.tissue.chroma_ceiling": "tissue.chroma_ceiling",
    "data.tissue.smooth_um": "tissue.smooth_um",
    "data.tissue.min_object_um2": "tissue.min_object_um2",
    "data.tissue.max_hole_um2": "tissue.max_hole_um2",
    "data.tissue.pen": "tissue.pen",
    "data.tissue.pen_margin_um": "tissue.pen_margin_um",
}
"""Keys that had another name before, and the one they have now."""


def taken_elsewhere(key: str, entry: str) -> str:
    """Say which other commands take a key or group that this one has not; empty where none does."""
    found = takers(key)
    if not found or script_of(entry) in found:
        return ""
    return f"has no effect in {script_of(entry)}; {' and '.join(found)} take{'s' if len(found) == 1 else ''} it"


def nearest(key: str, known: list[str]) -> str:
    """Prefer a key that is spelt alike to one that merely ends alike."""
    alike = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
    return near_match(key, known) or (f" did you mean {alike[0]!r}?" if alike else " see the keys with --cfg job")


def check_type(key: str, default: object, value: object) -> None:
    """Refuse a word where the default is a number or a switch: what options take, no schema knows."""
    if isinstance(default, bool) and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        raise ConfigError(f"{key}={value}: expected true or false")
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    if is_number and (isinstance(value, bool) or (isinstance(value, str) and not value.startswith("${"))):
        raise ConfigError(f"{key}={value}: expected a number (the default is {default})")


def explained(error: Exception, words: Sequence[str], entry: str) -> str:
    """Say why a configuration does not compose: the key, and the near match where a file misspells one."""
    cause = error.__cause__ or error.__context__ or error
    key, kind = getattr(cause, "full_key", None), getattr(cause, "object_type", None)
    where = " ".join(words)
    if key in RENAMED:
        return f"{where}: {key} was renamed; it is {RENAMED[key]} now"
    if key and is_dataclass(kind) and f"Key '{key.rpartition('.')[2]}' not in" in str(cause):
        return f"{where}: {key}: no such key;{near_match(key.rpartition('.')[2], [f.name for f in fields(kind)])}"
    reason = " ".join(str(cause).split())
    for word in words:  # of a group that this entry's defaults list has not, Hydra says only that
        group = word.partition("=")[0]
        if f"Could not override '{group}'" in reason and (elsewhere := taken_elsewhere(group, entry)):
            return f"{word}: {elsewhere}"
    if "hydra/sweeper/optuna" in reason:
        return f"{where}: the search needs Optuna and Hydra's plugin for it: `pip install zoomldm[search]`"
    return f"{where}: does not compose: {reason}"
