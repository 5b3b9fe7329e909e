"""An evaluation in its run's folder: JSON, tables, report, metrics; computed once for the same settings and rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from zoomldm.errors import UserError
from zoomldm.evaluation.evaluator import Evaluator
from zoomldm.evaluation.examples import Examples
from zoomldm.evaluation.report.report import write_report
from zoomldm.evaluation.report.tables import text_claims, text_table
from zoomldm.evaluation.result import Evaluation
from zoomldm.evaluation.stored import FOLDER, load_evaluation
from zoomldm.files import write_atomically


def computed_or_read(
    evaluator: Evaluator,
    run_folder: Path,
    *,
    run_name: str,
    step: int | None,
    log: Callable[[dict[str, float]], None] | None = None,
    keep: Callable[[Path], None] | None = None,
    fresh: bool = False,
    fabric: Fabric,
    **facts: Any,
) -> tuple[Evaluation | None, bool]:
    """Evaluate into ``<run>/evaluation`` and ``<run>/report``; return the evaluation and whether it was there already.

    Files: ``evaluation/<distance>.json`` and ``.md``, ``evaluation/<distance>.npz`` (patches for pictures),
    ``evaluation/patches/`` (synthetic patches), ``report/index.html``, ``report/report.md``.

    Args:
        log: called with the distances of a new evaluation, by name.
        keep: called with the folder of a new report.
        fresh: compute again, also what is there.
        fabric: the processes that share the making of synthetic patches; only the first one measures and returns an
            evaluation.
        facts: further fields of ``Evaluation`` (data, hardware, date, labels).
    """
    folder, name = Path(run_folder) / FOLDER, evaluator.bench.descriptors[0].distance_name
    path = folder / f"{name}.json"
    evaluation = None if fresh else _known(path, evaluator.row_ids())
    known = evaluation is not None
    if not known:
        evaluator.synthesise(fabric)
        if fabric.global_rank != 0:
            return None, False
        evaluation = evaluator.run(run_name=run_name, step=step, **facts)
        evaluator.bench.examples.save(path.with_suffix(".npz"))
        write_atomically(path.with_suffix(".md"), text_table(evaluation) + "\n\n" + text_claims(evaluation) + "\n")
        evaluation.save(path)
    report = Path(run_folder) / "report" / "index.html"
    if not known or not report.is_file():
        examples = Examples.load(path.with_suffix(".npz"))
        write_report(evaluation, examples, report.parent, metrics=Path(run_folder) / "metrics.jsonl")
        if log is not None and not known:
            log(evaluation.metrics())
        if keep is not None:
            keep(report.parent)
    return evaluation, known


def _known(path: Path, row_ids: dict[str, str]) -> Evaluation | None:
    """Return the stored evaluation if it has all these rows, with figures that still hold; it may have more."""
    try:
        stored = load_evaluation(path)
    except UserError:
        return None
    return stored if row_ids.items() <= stored.row_ids.items() else None
