"""The command line of every entry: Hydra underneath, people's mistakes answered at once and without a traceback.

Every job is composed and checked before the first one runs (composing.py). Nothing here imports torch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.composing import Job, Plan, planned, without_hydra
from zoomldm.config import CONF, PROJECT_ROOT
from zoomldm.errors import UserError, near_match
from zoomldm.flags import flags_first, flags_of, with_seeds
from zoomldm.launch.processes import is_first_process

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_USER_ERROR = 2


def main(
    config_name: str,
    run: Callable[[DictConfig], object],
    *,
    check: Callable[[DictConfig], None] | None = None,
    before: Callable[[Sequence[Job]], None] | None = None,
    after_sweep: Callable[[Sequence[Job], Path], None] | None = None,
) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line's overrides and call ``run(cfg)`` for each job.

    Args:
        check: raises ``ConfigError`` for a configuration that makes no sense; called for every job before the first.
        before: called once, in the first process, with all jobs when they have passed.
        after_sweep: called at the end of a sweep, also when a job failed, with all jobs and the sweep's folder.
    """
    os.environ.setdefault("PROJECT_ROOT", str(PROJECT_ROOT))
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # on a shared machine a waiting OpenMP thread leaves the core
    os.environ["ZOOMLDM_STARTED"] = time.strftime("%Y-%m-%d_%H-%M-%S")  # names the folder of a sweep
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that exceptions reach us and not Hydra's printer
    with user_errors():
        if config_name == "train":
            sys.argv[1:] = with_seeds(sys.argv[1:])
        flags = flags_of(sys.argv[1:])
        sys.argv[1:] = flags_first(sys.argv[1:], flags.overrides)
        if flags.help or flags.hydra_help or flags.info or flags.shell_completion:
            return _hydra_main(config_name, run)
        plan = planned(config_name, sys.argv[1:])
        if flags.cfg:
            return _hydra_main(config_name, run)
        if is_first_process():
            _check(config_name, plan, check)
            if before:
                before(plan.jobs)
        if plan.sweep_folder is None:
            return _run_one(plan.jobs[0], run)
        try:
            _hydra_main(config_name, run)
        finally:
            if after_sweep and not plan.is_search:
                after_sweep(plan.jobs, plan.sweep_folder)


def _check(config_name: str, plan: Plan, check: Callable[[DictConfig], None] | None) -> None:
    """Check every job: first what is known at once, then what its classes say, which imports them."""
    from zoomldm.commands.effect import check_effect, check_options

    configurations = [without_hydra(job.cfg) for job in plan.jobs]
    for job, cfg in zip(plan.jobs, configurations):
        if check:
            check(cfg)
        check_effect(config_name, cfg, job.words, is_sweep=plan.sweep_folder is not None)
    for cfg in configurations:
        check_options(config_name, cfg)


class user_errors:  # noqa: N801 - reads as a statement
    """Print a ``UserError`` as its message and exit with 2; other exceptions keep their traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        if isinstance(error, KeyboardInterrupt):
            print("interrupted; the same command goes on where it stopped", file=sys.stderr)
            sys.exit(130)


def _hydra_main(config_name: str, run: Callable[[DictConfig], object]) -> None:
    """Give the command line to Hydra: for its own flags, and for sweeps with their launchers."""
    import hydra

    from zoomldm.commands.register import register

    register()
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()


def _run_one(job: Job, run: Callable[[DictConfig], object]) -> None:
    """Run a single job as it was composed; an error in it is then told by us and not by Hydra as well."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import configure_log

    HydraConfig.instance().set_config(job.cfg)
    configure_log(job.cfg.hydra.job_logging)
    run(without_hydra(job.cfg))


def key_values(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Read the key=value words of a script that has no configuration.

    Raises:
        UserError: a key that is none of those known.
    """
    values = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in known:
            raise UserError(f"{word}: no such key;{near_match(key, known)} expected one of {', '.join(known)}")
        values[key] = value
    return values


def whole_number(key: str, value: str, least: int | None = None) -> int:
    """Return the number that a word says.

    Raises:
        UserError: it is none, or less than ``least``.
    """
    try:
        number = int(value)
    except ValueError:
        raise UserError(f"{key}={value}: expected a whole number") from None
    if least is not None and number < least:
        raise UserError(f"{key}={value}: expected {least} or more")
    return number
