"""An evaluation in its run's folder: JSON, tables, report, metrics; computed once for the same settings and rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoomldm.errors import UserError
from zoomldm.evaluation.evaluator import Evaluator, Examples
from zoomldm.evaluation.report.tables import text_claims, text_table, write_report
from zoomldm.evaluation.result import Evaluation
from zoomldm.files import write_atomically

FOLDER = "evaluation"


def evaluate_run(
    evaluator: Evaluator,
    run_folder: Path,
    *,
    run_name: str,
    step: int | None,
    log: Callable[[dict[str, float]], None] | None = None,
    keep: Callable[[Path], None] | None = None,
    fresh: bool = False,
    **facts: Any,
) -> tuple[Evaluation, bool]:
    """Evaluate into ``<run>/evaluation`` and ``<run>/report``; return the evaluation and whether it was there already.

    Files: ``evaluation/<distance>.json`` and ``.md``, ``evaluation/<distance>.npz`` (patches for pictures),
    ``evaluation/patches/`` (synthetic patches), ``report/index.html``, ``report/report.md``.

    Args:
        log: called with the distances of a new evaluation, by name.
        keep: called with the folder of a new report.
        fresh: compute again, also what is there.
        facts: further fields of ``Evaluation`` (data, hardware, date, labels).
    """
    folder, name = Path(run_folder) / FOLDER, evaluator.descriptors[0].distance_name
    path = folder / f"{name}.json"
    evaluation = None if fresh else _known(path, evaluator.row_ids())
    known = evaluation is not None
    if known:
        evaluator.examples = Examples.load(path.with_suffix(".npz"))
    else:
        evaluation = evaluator.run(run_name=run_name, step=step, **facts)
        evaluator.examples.save(path.with_suffix(".npz"))
        write_atomically(path.with_suffix(".md"), text_table(evaluation) + "\n\n" + text_claims(evaluation) + "\n")
        evaluation.save(path)
    report = Path(run_folder) / "report" / "index.html"
    if not known or not report.is_file():
        write_report(evaluation, evaluator.examples, report.parent, metrics=Path(run_folder) / "metrics.jsonl")
        if log is not None and not known:
            log(evaluation.metrics())
        if keep is not None:
            keep(report.parent)
    return evaluation, known


def stored_evaluations(run_folder: Path, distance_name: str | None = None) -> list[Evaluation]:
    """Return the evaluations in a run's folder, all or those of one distance."""
    folder = Path(run_folder) / FOLDER
    paths: Sequence[Path] = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [Evaluation.load(path) for path in paths if distance_name in (None, path.stem)]


def stored_examples(run_folder: Path, distance_name: str) -> Examples:
    """Return the patches for pictures that an evaluation kept."""
    return Examples.load(Path(run_folder) / FOLDER / f"{distance_name}.npz")


def _known(path: Path, row_ids: dict[str, str]) -> Evaluation | None:
    """Return the stored evaluation if it has all these rows, with figures that still hold; it may have more."""
    try:
        stored = Evaluation.load(path)
    except UserError:
        return None
    return stored if row_ids.items() <= stored.row_ids.items() else None
