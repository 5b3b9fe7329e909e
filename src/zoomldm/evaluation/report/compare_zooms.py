"""Zooming EDMs side by side: the errors of the tokens that they draw, averaged over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from zoomldm.errors import UserError
from zoomldm.evaluation.claims import DOES_NOT_HOLD, HOLDS, verdict
from zoomldm.evaluation.errors import Measure, averaged, difference
from zoomldm.evaluation.report.page import Page, Section, Table
from zoomldm.evaluation.report.tables import format_measure
from zoomldm.evaluation.seeds import same_but_seed
from zoomldm.evaluation.zoom import KINDS, ZoomErrors

Errors = Mapping[str, Sequence[ZoomErrors]]
"""Of each row what was found, seed by seed."""
Figures = dict[str, dict[str, Measure]]
"""Row -> column -> figure."""


@dataclass(frozen=True, kw_only=True)
class JudgedZoom:
    """A run of a zooming EDM, and what was found of it.

    Attributes:
        config: resolved; facts: what must be equal for figures to be averaged, by what it is called.
        fault: why its figures should not be relied on; None where nothing is known.
    """

    name: str
    errors: ZoomErrors
    config: Mapping[str, Any]
    facts: Mapping[str, str]
    fault: str | None = None

    @property
    def row(self) -> str:
        """What it has in common with those that it is averaged with."""
        return json.dumps([same_but_seed(self.config), dict(self.facts), self.fault and self.name])


def compare_zooms(zooms: Sequence[JudgedZoom], *, title: str, notes: Sequence[str] = ()) -> Page:
    """Set zooming EDMs side by side; those that differ in their seed alone are one row, called by the first of them.

    Raises:
        UserError: they were not judged at the same magnifications.
    """
    groups: dict[str, list[JudgedZoom]] = {}
    for one in zooms:
        groups.setdefault(one.row, []).append(one)
    rows = {group[0].name: [one.errors for one in group] for group in groups.values()}
    labels = {tuple(one.errors.by_rung) for one in zooms}
    if len(labels) > 1:
        said = "; ".join(f"{one.name}: {', '.join(one.errors.by_rung)}" for one in zooms)
        raise UserError(
            f"comparison: the zooms were judged at different magnifications ({said}); judge them by one data set"
        )
    said = [f"{one.name}: {one.fault}" for one in zooms if one.fault]
    said += [f"averaged over {len(group)} seeds: {_names(group)}" for group in groups.values() if len(group) > 1]
    sections = [
        *(_section(f"Tokens of quarters: {kind}", _by_magnification(rows, kind)) for kind in KINDS),
        _section(f"Drift: after so many levels below {_coarsest(zooms[0].errors)}", _drift(rows)),
    ]
    lead = (
        "Squared error of the standardised tokens against those of the real quarter; ± one standard error over seeds."
    )
    num = "/".join(map(str, sorted({one.errors.num for one in zooms})))
    facts = f"{num} held-out patches a magnification."
    return Page(title, lead, facts, [*sections, Section("Notes", [*notes, *said, *_mixed(zooms)])])


def _by_magnification(rows: Errors, kind: str) -> Figures:
    """Return the errors of a kind by the quarter's magnification, and their mean."""
    found: Figures = {}
    for name, seeds in rows.items():
        by_label = {label: [one.by_rung[label][kind] for one in seeds] for label in seeds[0].by_rung}
        means = [sum(one) / len(one) for one in zip(*by_label.values())]
        found[name] = {label: _over_seeds(values) for label, values in (by_label | {"mean": means}).items()}
    return found


def _drift(rows: Errors) -> Figures:
    """Return the errors after 1, 2, … levels below the coarsest root."""
    return {
        name: {
            str(depth): _over_seeds(values)
            for depth, values in enumerate(zip(*(one.drift[_coarsest(one)] for one in seeds)), start=1)
        }
        for name, seeds in rows.items()
    }


def _coarsest(errors: ZoomErrors) -> str:
    return list(errors.drift)[-1]


def _over_seeds(values: Sequence[float]) -> Measure:
    measures = [Measure(value) for value in values]
    return averaged(measures) if len(measures) > 1 else measures[0]


def _section(title: str, found: Figures) -> Section:
    """Return rows × columns, and the differences of rows with a star on what exceeds two standard errors."""
    columns = list(next(iter(found.values())))
    table = Table(["", *columns], [[name, *map(format_measure, row.values())] for name, row in found.items()])
    body = []
    for a, b in combinations(found, 2):
        gaps = [difference(found[a][column], found[b][column], same_samples=False) for column in columns]
        stars = [" *" * (verdict(gap) in (HOLDS, DOES_NOT_HOLD)) for gap in gaps]
        body.append([f"{a} - {b}", *(format_measure(gap) + star for gap, star in zip(gaps, stars))])
    caption = "Negative: the first is nearer to the real quarter. * exceeds two standard errors over seeds."
    return Section(title, [table, Table(["difference", *columns], body, caption=caption)] if body else [table])


def _names(group: Sequence[JudgedZoom]) -> str:
    return ", ".join(one.name for one in group)


def _mixed(zooms: Sequence[JudgedZoom]) -> list[str]:
    """Say in which facts runs differ that are set side by side."""
    found = []
    for fact in zooms[0].facts:
        values: dict[str, list[JudgedZoom]] = {}
        for one in zooms:
            values.setdefault(one.facts[fact], []).append(one)
        if len(values) > 1:
            found.append(f"mixed {fact}: " + "; ".join(f"{value} ({_names(group)})" for value, group in values.items()))
    return found
