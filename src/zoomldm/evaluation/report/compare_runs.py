"""The evaluations that runs keep in their folders, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoomldm.errors import UserError, near_match
from zoomldm.evaluation.report.compare import Comparison, compare
from zoomldm.evaluation.result import MAIN_ROW, Evaluation
from zoomldm.evaluation.seeds import Entrant, averaged_over_seeds
from zoomldm.evaluation.stored import stored_evaluations, stored_examples
from zoomldm.runs.run import Run


def compare_runs(
    runs: str | Path,
    names: Sequence[str],
    folder: Path,
    *,
    title: str,
    distance_name: str | None = None,
    faults: Mapping[str, str] | None = None,
    stored: Mapping[str, Sequence[Evaluation]] | None = None,
    notes: Sequence[str] = (),
    against: str = MAIN_ROW,
) -> Comparison:
    """Compare evaluated runs and write the page into a folder.

    Runs that differ in their seed alone are averaged. They are named by what differs between them (``film``, ``mag``);
    those that differ in nothing but the magnification they were trained for become one row. Where the names allow it,
    ``film`` is claimed to lie below every other conditioner, and ``unified`` below ``single``.

    Args:
        faults: by run, what speaks against its figures (a parent that is gone or has changed).
        stored: by run, its evaluations, where they are not those in its folder; notes: what must be known of them.
        against: the row of a run that its other rows are set against.

    Raises:
        UserError: none of the runs was evaluated, no one distance judged them all, or none has the row ``against``.
    """
    kept = {name: stored_evaluations(Path(runs) / name, distance_name) for name in names} if stored is None else stored
    by_run = {name: found for name, found in kept.items() if found}
    notes = [*notes, *(f"not evaluated, so left out: {name}" for name in names if name not in by_run)]
    judge = _shared_judge(by_run)
    judged = {name: next(one for one in found if one.judge.distance_name == judge) for name, found in by_run.items()}
    notes += _without(against, [*judged.values()])
    entrants = [_entrant(Run(Path(runs) / name), one, (faults or {}).get(name)) for name, one in judged.items()]
    found, named = averaged_over_seeds(entrants)
    shown = display_names(found)
    below = [("film", other) for other in dict.fromkeys(shown) if other != "film"]
    below += [("unified", other) for other in dict.fromkeys(shown) if other.startswith("single")]
    revisions = {one.name: one.revision for one in entrants}
    told = {"notes": [*notes, *named], "revisions": revisions, "against": against}
    comparison = compare(list(zip(shown, found)), below=below, **told)
    shows = stored is None and len({*shown}) == len(found)
    examples = {
        name: stored_examples(Path(runs) / one.run_name, one.judge.distance_name)
        for name, one in zip(shown, found)
        if shows
    }
    comparison.write(folder, title=title, examples=examples or None)
    return comparison


def _without(row: str, evaluations: Sequence[Evaluation]) -> list[str]:
    """Say which runs have no such row.

    Raises:
        UserError: none has it.
    """
    lacking = [one.run_name for one in evaluations if row not in one.rows] if row != MAIN_ROW else []
    if lacking and len(lacking) == len(evaluations):
        known = dict.fromkeys(info.name for one in evaluations for info in one.row_infos)
        near = near_match(row, known)
        raise UserError(f"against={row}: no run has such a row;{near} expected one of {', '.join(known)}")
    return [f"no row {row}, so its rows are set against none: {name}" for name in lacking]


def _entrant(run: Run, evaluation: Evaluation, fault: str | None) -> Entrant:
    return Entrant(evaluation=evaluation, config=run.config, described=run.described(), fault=fault)


def _shared_judge(stored: Mapping[str, Sequence[Evaluation]]) -> str | None:
    """Return the distance that judged every run, FID before fd_texture before others; None where there are no runs.

    Raises:
        UserError: no distance judged all of them; the message says what judged which.
    """
    if not stored:
        return None
    by_run = {name: {one.judge.distance_name for one in evaluations} for name, evaluations in stored.items()}
    shared = set.intersection(*by_run.values())
    if not shared:
        said = "; ".join(f"{name}: {', '.join(sorted(judges))}" for name, judges in by_run.items())
        raise UserError(
            f"comparison: no one distance judged all runs, and figures of different judges cannot be set side by side "
            f"({said}); evaluate them with one features="
        )
    return min(shared, key=lambda name: (name != "FID", name != "fd_texture", name))


def display_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Name runs by those of their labels that differ; by their run names where that does not tell them apart."""
    keys = [
        key
        for key in dict.fromkeys(key for one in evaluations for key in one.labels)
        if len({one.labels.get(key) for one in evaluations}) > 1
    ]
    names = [" ".join(one.labels[key] for key in keys if key in one.labels) or one.run_name for one in evaluations]
    places = [(name, label) for name, one in zip(names, evaluations) for label in one.magnifications]
    doubled = {name for name, label in places if places.count((name, label)) > 1}
    return [one.run_name if name in doubled else name for name, one in zip(names, evaluations)]
