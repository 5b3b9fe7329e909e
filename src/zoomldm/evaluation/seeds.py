"""Runs that differ in their seed alone become one: the average of their figures. What may not be averaged is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoomldm.evaluation.errors import Measure, averaged
from zoomldm.evaluation.result import Cell, Evaluation
from zoomldm.runs.identity import NOT_IDENTITY, flattened

Fact = Callable[["Entrant"], str]


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A run that is compared.

    Attributes:
        config: resolved; described: what its run.json says.
        fault: why its figures should not be relied on (a parent is gone or changed); None where nothing is known.
    """

    evaluation: Evaluation
    config: Mapping[str, Any]
    described: Mapping[str, Any]
    fault: str | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.evaluation.run_name

    @property
    def revision(self) -> str:
        """The source that trained it."""
        return revision_of(self.described)

    @property
    def same_but_seed(self) -> str:
        """What it has in common with runs of other seeds, and with no others."""
        return same_but_seed(self.config)


def same_but_seed(config: Mapping[str, Any]) -> str:
    """Return what a run's configuration has in common with that of other seeds, and with no others.

    Runs that it names as its parents may be those of its own seed.
    """
    own = f"-seed={config.get('seed')}"
    kept = {
        key: value.removesuffix(own) if key.endswith(".run") and isinstance(value, str) else value
        for key, value in flattened(config).items()
        if key != "seed" and not any(key == one or key.startswith(f"{one}.") for one in NOT_IDENTITY)
    }
    return json.dumps(kept, sort_keys=True, default=str)


def revision_of(described: Mapping[str, Any]) -> str:
    """Return the source that trained a run, by what its run.json says."""
    revision = str(described.get("git_revision") or described.get("code_version"))[:12]
    return f"{revision} with changes" if described.get("git_dirty") else revision


def averaged_over_seeds(entrants: Sequence[Entrant]) -> tuple[list[Evaluation], list[str]]:
    """Return one evaluation for the runs of each configuration, in their order, and why others stand alone.

    Runs whose parents are gone, or that differ in revision, judge, number of patches, real patches or steps are not
    averaged: each stays a row of its own.
    """
    groups: dict[str, list[Entrant]] = {}
    for one in entrants:
        groups.setdefault(one.same_but_seed, []).append(one)
    found, notes = [], [f"{one.name}: {one.fault}" for one in entrants if one.fault]
    for group in groups.values():
        reasons = list(_why_not(group)) if len(group) > 1 else []
        notes += [f"not averaged: {', '.join(one.name for one in group)}: {reason}" for reason in reasons]
        one_each = [one.evaluation for one in group]
        if reasons or len(group) == 1:
            found += one_each
        else:
            found.append(average(one_each))
            names = ", ".join(one.name for one in group)
            notes.append(f"averaged over {len(group)} seeds: {names}")
            infos = [info for one in one_each for info in (*one.row_infos, *one.metric_infos)]
            kept = {info.name for info in (*found[-1].row_infos, *found[-1].metric_infos)}
            if lost := dict.fromkeys(info.title for info in infos if info.name not in kept):
                notes.append(f"left out, as not all of {names} have it: {', '.join(lost)}")
    return found, [*notes, *_mixed(entrants, groups)]


def _why_not(group: Sequence[Entrant]) -> list[str]:
    reasons = ["a parent is missing or has changed"] if any(one.fault for one in group) else []
    for what, of in (*FACTS.items(), _settings_apart(group)):
        values = {one.name: of(one) for one in group}
        if len(set(values.values())) > 1:
            reasons.append(f"{what}: " + ", ".join(dict.fromkeys(map(str, values.values()))))
    return reasons


def _mixed(entrants: Sequence[Entrant], groups: Mapping[str, Sequence[Entrant]]) -> list[str]:
    """Say what differs between rows that are set side by side."""
    if len(groups) < 2:
        return []
    found = []
    for what, of in (*((fact, FACTS[fact]) for fact in ("mixed revisions", "unequal n")), _settings_apart(entrants)):
        runs: dict[str, list[str]] = {}
        for one in entrants:
            runs.setdefault(of(one), []).append(one.name)
        if len(runs) > 1:
            found.append(f"{what}: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in runs.items()))
    return found


def _num(one: Entrant) -> str:
    cells = one.evaluation.cells[one.evaluation.judge.distance_name].values()
    return "/".join(map(str, sorted({cell.num for row in cells for cell in row.values()})))


INTERVALS = ("guidance interval", "EDM guidance interval")


def _settings_apart(entrants: Sequence[Entrant]) -> tuple[str, Fact]:
    """Return the fact of those settings in which patches of the runs were asked for otherwise.

    Those count that all wrote down, and the guidance interval, which is written down where there is one.
    """
    said = [one.evaluation.settings for one in entrants]
    known = [key for key in said[0] if not key.startswith(OWN) and all(key in one for one in said)] if said else []
    of_interval = [key for key in INTERVALS if any(key in one for one in said)]
    apart = [key for key in (*known, *of_interval) if len({str(one.get(key)) for one in said}) > 1]
    return "other settings", lambda one: ", ".join(f"{key} {one.evaluation.settings.get(key, 'none')}" for key in apart)


OWN = ("patches", "protocol means", "seed", "EDM model", *INTERVALS)
"""What settings begin with that a run may have for itself, or that other facts tell."""
FACTS = {
    "mixed revisions": lambda one: one.revision,
    "mixed judges": lambda one: f"{one.evaluation.judge.distance_name} {one.evaluation.judge.fingerprint[:12]}",
    "unequal n": _num,
    "other real patches": lambda one: " ".join(one.evaluation.reference_ids.values())[:40],
    "unequal steps": lambda one: str(one.evaluation.step),
}
"""What must be equal for figures to be averaged, by what is said where it is not."""


def average(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Average the figures that all have, cell by cell, without what not all have; the first lends its name."""
    first = evaluations[0]
    rows_of_all, metrics = (
        [info for info in getattr(first, kind) if all(info.name in _names(one, kind) for one in evaluations)]
        for kind in ("row_infos", "metric_infos")
    )
    names = [row.name for row in rows_of_all]
    cells = {
        distance: {
            row: {
                label: _average([one.cells[distance][row][label] for one in evaluations])
                for label in by_label
                if all(label in one.cells.get(distance, {}).get(row, {}) for one in evaluations)
            }
            for row, by_label in rows.items()
            if row in names
        }
        for distance, rows in first.cells.items()
    }
    return replace(first, cells=cells, row_infos=rows_of_all, metric_infos=metrics, claims=[])


def _names(evaluation: Evaluation, kind: str) -> set[str]:
    return {info.name for info in getattr(evaluation, kind)}


def _average(cells: Sequence[Cell]) -> Cell:
    shared = set.intersection(*(set(cell.measures) for cell in cells))
    measures: dict[str, Measure] = {}
    for name in (name for name in cells[0].measures if name in shared):
        values = [cell.measures[name] for cell in cells]
        measures[name] = averaged(values) if all(one.value is not None for one in values) else values[0]
    return replace(cells[0], distance=averaged([cell.distance for cell in cells]), measures=measures)
