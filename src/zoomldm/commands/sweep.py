"""The end of a sweep: its jobs' distances side by side."""

from pathlib import Path

from zoomldm.cli import Job
from zoomldm.commands.train import run_name_of
from zoomldm.errors import UserError


def compare_jobs(jobs: list[Job], folder: Path) -> None:
    """Write and print the comparison of a sweep's evaluated runs, and add it to the sweep's MLflow run.

    Args:
        folder: takes comparison.md, .html and .png.
    """
    from zoomldm.commands.evaluation import compare_runs
    from zoomldm.tracking.mlflow import add_to_sweep

    evaluated = [job.cfg.zoomldm.run if job.cfg.model.kind == "edm" else _name(job) for job in jobs if _is_judged(job)]
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
    add_to_sweep(folder, metrics=comparison.metrics())
    print(f"\n{comparison.to_text()}\n\ncomparison: {folder / 'comparison.html'}")


def _name(job: Job) -> str:
    return run_name_of(job.cfg, list(job.words))


def _is_judged(job: Job) -> bool:
    return job.cfg.model.kind != "autoencoder"
