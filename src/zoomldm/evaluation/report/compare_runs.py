"""The evaluations that runs keep in their folders, side by side."""

from collections.abc import Sequence
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.evaluation.report.compare import Comparison, compare
from zoomldm.evaluation.result import Evaluation
from zoomldm.evaluation.stored import stored_evaluations, stored_examples


def compare_runs(
    runs: str | Path, names: Sequence[str], folder: Path, *, title: str, distance_name: str | None = None
) -> Comparison:
    """Compare the evaluated runs of a sweep and write the page into a folder.

    Runs are named by what differs between them (``film``, ``mag``); those that differ in nothing but the magnification
    they were trained for become one row. Where the names allow it, ``film`` is claimed to lie below every other
    conditioner, and ``unified`` below ``single``.

    Raises:
        UserError: none of the runs was evaluated.
    """
    stored = [evaluations for name in names if (evaluations := stored_evaluations(Path(runs) / name, distance_name))]
    judge = _shared_judge(stored)
    found = [next(one for one in evaluations if one.judge.distance_name == judge) for evaluations in stored]
    shown = display_names(found)
    below = [("film", other) for other in dict.fromkeys(shown) if other != "film"] + [("unified", "single")]
    comparison = compare(list(zip(shown, found)), below=below)
    examples = {
        shown_name: stored_examples(Path(runs) / one.run_name, one.judge.distance_name)
        for shown_name, one in zip(shown, found)
    }
    comparison.write(folder, title=title, examples=examples if len(examples) == len(found) else None)
    return comparison


def _shared_judge(stored: Sequence[Sequence[Evaluation]]) -> str | None:
    """Return the distance that judged every run, FID before fd_texture before others; None where there are no runs.

    Raises:
        UserError: no distance judged all of them.
    """
    if not stored:
        return None
    shared = set.intersection(*({one.judge.distance_name for one in evaluations} for evaluations in stored))
    if not shared:
        names = ", ".join(sorted({one.judge.distance_name for evaluations in stored for one in evaluations}))
        raise UserError(
            f"comparison: no one distance judged all runs (there are {names}); evaluate them with one features="
        )
    return min(shared, key=lambda name: (name != "FID", name != "fd_texture", name))


def display_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Name runs by those of their labels that differ, by their run names where none does."""
    keys = [
        key
        for key in dict.fromkeys(key for one in evaluations for key in one.labels)
        if len({one.labels.get(key) for one in evaluations}) > 1
    ]
    if not keys:
        return [one.run_name for one in evaluations]
    return [" ".join(str(one.labels.get(key, "–")) for key in keys) for one in evaluations]
