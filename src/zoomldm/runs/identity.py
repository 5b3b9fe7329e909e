"""The default name of a run: what was chosen, so that one command always means one run."""

import re
from collections.abc import Iterable

from zoomldm.runs.run import NOT_IDENTITY

ALWAYS_NAMED = ("model", "data", "cond", "data.name", "training")
DEFAULTS = frozenset({"curriculum=uniform", "seed=0"})


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
        if key not in ALWAYS_NAMED and not unnamed and word not in DEFAULTS:
            further.append(word.lstrip("+"))
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join([*stem, *sorted(further)]))
