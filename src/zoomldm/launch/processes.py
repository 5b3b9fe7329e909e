"""Which process this is, by the environment that a launcher set. Imports nothing."""

from __future__ import annotations

import os

RANKS_VARIABLE = "ZOOMLDM_RANKS"
"""Set in the processes that a supervisor started: how many there are."""


def is_first_process() -> bool:
    """Say whether this process is the only one or the first of a distributed launch."""
    return all(int(os.environ.get(name) or 0) == 0 for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID", "NODE_RANK"))


def is_supervised() -> bool:
    """Say whether a supervisor of ours started this process; it has said already what is to be done."""
    return RANKS_VARIABLE in os.environ


def is_worker() -> bool:
    """Say whether this process is one rank of several that something else started: a supervisor, torchrun, srun."""
    return (
        any(name in os.environ for name in (RANKS_VARIABLE, "TORCHELASTIC_RUN_ID"))
        or int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1
    )
