"""A sweep: its runs grouped by the tracker, its failures told at once, its distances side by side at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from zoomldm.commands.job import option
from zoomldm.errors import UserError
from zoomldm.tracking.base import Tracker

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

    from zoomldm.composing import Job


class SweepCallback(Callback):
    """Hydra's callback for sweeps: the tracker's group of runs, and a line for every job that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        words = " ".join(config.hydra.overrides.task) or "sweep"
        option(config, "tracking").make(Tracker).begin_sweep(Path(config.hydra.sweep.dir), words)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        from hydra.core.utils import JobStatus

        if job_return.status == JobStatus.FAILED:
            self.failed += 1
            error = job_return._return_value
            words = " ".join(job_return.overrides or [])
            print(f"job {words} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        option(config, "tracking").make(Tracker).end_sweep(Path(config.hydra.sweep.dir), failed=self.failed > 0)


def compare_jobs(jobs: Sequence[Job], folder: Path) -> None:
    """Write and print the comparison of a sweep's evaluated runs, and add it to the tracker's sweep.

    Args:
        folder: takes comparison.md, .html and .png.
    """
    from zoomldm.commands.check import stage_in
    from zoomldm.commands.train import run_name_of
    from zoomldm.evaluation.report.compare_runs import compare_runs

    judged = [stage_in(job.cfg).judged(run_name_of(job.cfg, job.words)) for job in jobs]
    evaluated = [one.zoomldm for one in judged if one is not None]
    if not evaluated:
        return
    try:
        comparison = compare_runs(
            jobs[0].cfg.paths.runs,
            list(dict.fromkeys(evaluated)),
            folder,
            title="comparison: " + ", ".join(dict.fromkeys(word for job in jobs for word in job.words)),
        )
    except UserError as error:
        print(f"no comparison: {error}")
        return
    option(jobs[0].cfg, "tracking").make(Tracker).add_to_sweep(folder, comparison.metrics())
    print(f"\n{comparison.to_text()}\n\ncomparison: {folder / 'comparison.html'}")
