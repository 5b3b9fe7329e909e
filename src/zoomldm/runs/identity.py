"""What makes a run this run: keys that may not differ between two starts, and the name that says what was chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoomldm.errors import ConfigError

NOT_IDENTITY = (
    "train.steps", "train.log_every", "train.validate_every", "train.checkpoint_every", "train.keep_last",
    "train.keep_every", "train.sample_every", "train.preempt_every", "optim.max_micro_batch", "fabric", "tracking",
    "paths", "hydra", "fresh", "plan", "evaluation", "features", "experiments", "run_name", "data.root", "data.slides",
    "data.demo_slides.folder", "data.tissue", "tissue", "allow_code", "rows", "metrics",
    "label.file",
)  # fmt: skip
"""Keys that may differ between two starts of one run: where and how fast it computes, how far, and what is reported."""

WHEN_ABSENT = {
    "from": None, "cond.projection": None, "label": None,
    "optim.lr_scale": "none", "train.recalibration_samples": 1024, "train.statistics_samples": 2048,
    "train.explosion_factor": 20.0, "sampling.guidance_interval": None,
}  # fmt: skip
"""Settings that were not always written down, and the values that they had when they were not."""
ALWAYS_NAMED = ("model", "data", "cond", "data.name", "training")
DEFAULTS = frozenset({"curriculum=uniform", "seed=0"})
WEIGHT_FILES = ("autoencoder.weights", "unet.init")
"""Keys that a user must give at the paper's size. Their paths say where files lie, not what is tried, so they are no
part of a name, and model=edm finds the run that it stands on; an explicit null is part of it."""


def default_run_name(stem: Iterable[str], overrides: Iterable[str]) -> str:
    """Return ``model-data-cond`` and, after it, every further override that changes what is trained.

    Args:
        stem: the parts that are always named (for a single magnification, that too).
        overrides: the job's overrides as typed, ``key=value``.

    >>> default_run_name(["zoomldm_tiny", "demo", "film"], ["cond=film", "optim.lr=2e-4", "fabric=cpu"])
    'zoomldm_tiny-demo-film-optim.lr=2e-4'
    """
    further = []
    for word in overrides:
        key = word.split("=", 1)[0].lstrip("+~")
        unnamed = any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in (*NOT_IDENTITY, "training"))
        is_path = key in WEIGHT_FILES and not word.endswith("=null")
        if key not in ALWAYS_NAMED and not unnamed and not is_path and word not in DEFAULTS:
            further.append(word.lstrip("+"))
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join([*stem, *sorted(further)]))


def check_run_name(name: str) -> None:
    """Refuse a name that is not that of a folder among the runs.

    Raises:
        ConfigError: it leads elsewhere.
    """
    if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*", name):
        raise ConfigError(
            f"run_name={name}: expected the name of a folder in paths.runs, without / and not beginning with a dot; "
            "paths.runs= says where runs lie"
        )


def name_in_use(runs: Path, name: str) -> str:
    """Return the name under which a run lies: earlier versions put the paths of its weight files behind it.

    Args:
        name: as ``default_run_name`` makes it. It is returned as it is where a run of it lies there, or where none or
            several of the earlier kind do.
    """
    if (runs / name).exists():
        return name
    former = [path.name for path in runs.glob("*=*") if _without_weights(path.name) == name]
    return former[0] if len(former) == 1 else name


def _without_weights(name: str) -> str:
    """Take the words of WEIGHT_FILES out of a run's name."""
    return re.sub(rf"-(?:{'|'.join(map(re.escape, WEIGHT_FILES))})=(?!null).*?(?=-[a-z_.]+=|$)", "", name)


def differing_keys(
    before: Mapping[str, Any], now: Mapping[str, Any], exempt: Sequence[str] = NOT_IDENTITY
) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with both values; `exempt` are keys or sections that may."""
    old, new = flattened(before), flattened(now)
    old |= {key: value for key, value in WHEN_ABSENT.items() if key in new and key not in old}
    return {
        key: (old.get(key, "not set"), new.get(key, "not set"))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not any(key == e or key.startswith(e + ".") for e in exempt)
    }


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration as one dict of dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
