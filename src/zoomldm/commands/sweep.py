"""A sweep: its runs grouped by the tracker, its failures told at once, its distances side by side at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from zoomldm.commands.job import option
from zoomldm.errors import UserError
from zoomldm.runs.run import Run
from zoomldm.tracking.base import Tracker

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

    from zoomldm.composing import Job
    from zoomldm.evaluation.report.compare import Comparison


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
            again = shlex.join([sys.argv[0], "-m", *(job_return.overrides or [])])
            print(f"again, that job alone: python {again}", file=sys.stderr, flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        option(config, "tracking").make(Tracker).end_sweep(Path(config.hydra.sweep.dir), failed=self.failed > 0)


def compare_jobs(jobs: Sequence[Job], folder: Path) -> None:
    """Write and print the comparison of a sweep's evaluated runs, and add it and all runs to the tracker's sweep.

    Args:
        folder: takes comparison.md, .html and .png.
    """
    from zoomldm.commands.check import stage_in
    from zoomldm.commands.train import run_name_of

    names = [run_name_of(job.cfg, job.words) for job in jobs]
    judged = [stage_in(job.cfg).judged(name) for job, name in zip(jobs, names)]
    evaluated = list(dict.fromkeys(one.zoomldm for one in judged if one is not None))
    comparison = _comparison(jobs, evaluated, folder) if evaluated else None
    runs = [run for name in names if (run := Run(Path(jobs[0].cfg.paths.runs) / name)).described()]
    tracker = option(jobs[0].cfg, "tracking").make(Tracker)
    children = [(run, _summary(run) if run.name in evaluated else {}) for run in runs]
    tracker.add_to_sweep(folder, comparison.metrics() if comparison else {}, children)


def _summary(run: Run) -> dict[str, float]:
    from zoomldm.evaluation.stored import stored_evaluations

    return {name: value for one in stored_evaluations(run.folder) for name, value in one.summary().items()}


def _comparison(jobs: Sequence[Job], names: Sequence[str], folder: Path) -> Comparison | None:
    from zoomldm.commands.job import allowed
    from zoomldm.evaluation.report.compare_runs import compare_runs
    from zoomldm.stages.orphans import orphans

    runs = Path(jobs[0].cfg.paths.runs)
    title = "comparison: " + ", ".join(dict.fromkeys(word for job in jobs for word in job.words))
    there = [run for name in names if (run := Run(runs / name)).described()]
    try:
        faults = orphans(there, allow=allowed(jobs[0].cfg))
        comparison = compare_runs(runs, names, folder, title=title, faults=faults)
    except UserError as error:
        print(f"no comparison: {error}")
        return None
    print(f"\n{comparison.to_text()}\n\ncomparison: {folder / 'comparison.html'}")
    return comparison
