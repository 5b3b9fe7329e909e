"""Several runs side by side: a table, claims and a picture from their evaluations, as at the end of a sweep."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.evaluation.claims import run_below
from zoomldm.evaluation.examples import Examples
from zoomldm.evaluation.report import pictures
from zoomldm.evaluation.report.differences import best_of, further_tables, tables_of_differences
from zoomldm.evaluation.report.figures import JOINED, figures_of, to_json
from zoomldm.evaluation.report.page import Claims, Page, Picture, Section, Table, table_to_markdown
from zoomldm.evaluation.report.tables import format_cell, format_measure
from zoomldm.evaluation.result import FLOOR_ROW, MAIN_ROW, Claim, Evaluation
from zoomldm.files import write_atomically
from zoomldm.sampling.pictures import Column, panel, png_bytes

Entry = tuple[str, Evaluation]


def compare(
    entries: Sequence[Entry],
    *,
    below: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    revisions: Mapping[str, str] | None = None,
    against: str = MAIN_ROW,
) -> "Comparison":
    """Put runs side by side under their names; runs of one name are one row (single-magnification runs).

    Args:
        below: pairs of names (lower, upper): the claim that the first lies below the second at the lowest judged
            magnifications. Pairs with a name that is not there are left out.
        notes: what must be known of the runs; revisions: of the source that trained them, by run.
        against: the row of a run that its other rows are set against, where it has it.

    Raises:
        UserError: there is nothing to compare, or the runs were judged by different descriptors.
    """
    if not entries:
        raise UserError("comparison: no run was evaluated; run src/evaluate.py on them first")
    judges = {evaluation.judge.fingerprint: evaluation.judge.distance_name for _, evaluation in entries}
    if len(judges) > 1:
        raise UserError(
            f"comparison: the runs were judged by different descriptors ({', '.join(sorted(set(judges.values())))}); "
            "evaluate them again with one and the same features="
        )
    names = list(dict.fromkeys(name for name, _ in entries))
    together = {name: merge([evaluation for other, evaluation in entries if other == name]) for name in names}
    claims = [
        claim
        for lower, upper in below
        if lower in together and upper in together
        for claim in _claims(lower, upper, together)
    ]
    return Comparison(together, claims, notes, revisions, against)


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Unite evaluations of different magnifications to one; where two have the same, the later one counts."""
    if len(evaluations) == 1:
        return evaluations[0]
    labels = sorted({x for one in evaluations for x in one.magnifications}, key=lambda x: -float(x.rstrip("x")))
    cells: dict = {}
    for one in evaluations:
        for distance, rows in one.cells.items():
            for row, by_label in rows.items():
                cells.setdefault(distance, {}).setdefault(row, {}).update(by_label)
    ids = {label: value for one in evaluations for label, value in one.reference_ids.items()}
    return replace(
        evaluations[0],
        run_name=JOINED.join(one.run_name for one in evaluations),
        magnifications=labels,
        row_infos=list({row.name: row for one in evaluations for row in one.row_infos}.values()),
        cells=cells,
        reference_ids=ids,
        reference_patches={label: value for one in evaluations for label, value in one.reference_patches.items()},
        claims=[],
    )


class Comparison:
    """Runs by name, what was claimed about them, and what must be known of them."""

    def __init__(
        self,
        runs: dict[str, Evaluation],
        claims: Sequence[Claim],
        notes: Sequence[str] = (),
        revisions: Mapping[str, str] | None = None,
        against: str = MAIN_ROW,
    ) -> None:
        self.runs, self.claims, self.notes, self.against = runs, list(claims), list(notes), against
        self.revisions = dict(revisions or {})
        self.distance_name = next(iter(runs.values())).judge.distance_name
        labels = {label for evaluation in runs.values() for label in evaluation.magnifications}
        self.magnifications = sorted(labels, key=lambda label: -float(label.rstrip("x")))

    def table(self, *, of_pairs: bool = False) -> Table:
        """Return runs × magnifications of the synthetic rows; the real rows that all runs share stand above."""
        first = next(iter(self.runs.values()))
        real = [] if of_pairs else [row for row in first.row_infos if not row.is_synthetic]
        body = [[row.title, *(self._text(first, row.name, label) for label in self.magnifications)] for row in real]
        styles = ["quiet"] * len(body)
        infos = {row.name: row for run in self.runs.values() for row in run.row_infos}
        rows = [row for row in infos.values() if row.is_synthetic and not row.is_control]
        rows = [row for row in rows if row.name == MAIN_ROW] if of_pairs else rows
        for row in rows:
            for number, (name, run) in enumerate((n, r) for n, r in self.runs.items() if row.name in r.rows):
                title = name if of_pairs else f"{name}, {row.title}"
                body.append([title, *(self._text(run, row.name, label, of_pairs) for label in self.magnifications)])
                styles.append("break" if number == 0 else "")
        name = f"{self.distance_name}, paired" if of_pairs else self.distance_name
        caption = "Lower is nearer to real patches; ± one standard error; ‡ KID is judged instead, † nothing is."
        if len({run.step for run in self.runs.values()}) > 1:
            steps = ", ".join(f"{name} {run.step:,}" for name, run in self.runs.items() if run.step is not None)
            caption += f" The runs were not trained for the same number of steps: {steps}."
        return Table([name, *self.magnifications], body, styles, caption)

    def to_text(self) -> str:
        """Return the tables, the claims, the best of each magnification and the notes for a terminal."""
        lines = [table_to_markdown(table) + "\n" for table in (self.table(), *self._differences())]
        lines += [f"  {claim.verdict:<14} {claim.statement}" for claim in self.claims]
        lines += [f"  {one}" for one in (*best_of(self.runs, self.magnifications), *self.notes)]
        return "\n".join(lines)

    def _differences(self) -> list[Table]:
        return tables_of_differences(self.runs, self.magnifications, self.against)

    def page(self, title: str, examples: dict[str, Examples] | None = None) -> Page:
        """Lay the comparison out as a page; ``examples`` shows each run's patches beside the same references."""
        items: list = [*self.notes, self.table(), *best_of(self.runs, self.magnifications), self._chart()]
        sections = [Section("Distances", items)]
        if differences := self._differences():
            sections.append(Section("Which differences exceed their errors?", differences))
        paired = [run for run in self.runs.values() if any(c.paired for c in _oracle(run).values())]
        if paired:
            text = "Each synthetic patch against the real patch whose condition it was made from."
            sections.append(Section("Does a patch follow its condition?", [text, self.table(of_pairs=True)]))
        if further := further_tables(self.runs, self.magnifications):
            sections.append(Section(f"Further figures, {self._asked()}", further))
        if self.claims:
            shown = Claims([(claim.verdict, claim.statement, claim.details) for claim in self.claims])
            sections.append(Section("What the figures show", [shown]))
        if examples:
            sections += self._panels(examples)
        judge = next(iter(self.runs.values()))
        facts = " · ".join(part for part in (f"{len(self.runs)} rows", judge.hardware, judge.date) if part)
        runs = "; ".join(f"{name}: {run.run_name}" for name, run in self.runs.items())
        return Page(
            title,
            f"{self.distance_name} by magnification, {', '.join(self.runs)}.",
            f"{facts}. Runs: {runs}.",
            sections,
        )

    def write(self, folder: str | os.PathLike, *, title: str, examples: dict[str, Examples] | None = None) -> Path:
        """Write ``comparison.html`` (one file), ``comparison.md``, its pictures and ``comparison.json``.

        Returns:
            The path of the HTML.
        """
        told = {"notes": self.notes, "revisions": self.revisions, "against": self.against}
        figures = figures_of(self.runs, self.magnifications, **told)
        write_atomically(Path(folder) / "comparison.json", to_json(figures))
        page = self.page(title, examples)
        return page.write(Path(folder), markdown="comparison.md", html="comparison.html")

    def metrics(self) -> dict[str, float]:
        """Return every run's distances as ``fd_texture/oracle/5x/film``, ready for a tracker."""
        return {f"{key}/{name}": value for name, run in self.runs.items() for key, value in run.metrics().items()}

    def _asked(self) -> str:
        """Return what the row is called that runs are compared by."""
        return next((run.row(MAIN_ROW).title for run in self.runs.values() if MAIN_ROW in run.rows), MAIN_ROW)

    def _text(self, run: Evaluation, row: str, label: str, of_pairs: bool = False) -> str:
        cell = run.cell(row, label)
        return format_measure(cell and cell.paired) if of_pairs else format_cell(cell)

    def _chart(self) -> Picture:
        shown = [(name, run, MAIN_ROW) for name, run in self.runs.items()]
        first = next(iter(self.runs.values()))
        if FLOOR_ROW in first.rows:
            shown.insert(0, (first.row(FLOOR_ROW).title, first, FLOOR_ROW))
        lines = []
        for name, run, row in shown:
            cells = [(label, cell) for label in self.magnifications if (cell := run.cell(row, label))]
            colour = run.row(row).colour if row == FLOOR_ROW else None
            if cells:
                lines.append(pictures.distance_line(name, cells, dashed=row == FLOOR_ROW, colour=colour))
        title = f"{self.distance_name} (log)"
        png = pictures.chart(lines, x_title="magnification", y_title=title, categories=self.magnifications, log_y=True)
        caption = f"{self._asked().capitalize()} by run, ± one standard error; dashed: two halves of the real patches."
        return Picture("comparison.png", png, caption, is_chart=True)

    def _panels(self, examples: dict[str, Examples]) -> list[Section]:
        columns = []
        for label in self.magnifications:
            shown = {n: e.get(MAIN_ROW, label) for n, e in examples.items() if e.get(MAIN_ROW, label) is not None}
            references = [e.get("reference", label) for n, e in examples.items() if n in shown]
            if shown:
                group = label.replace("x", "×")
                columns.append(Column("reference", list(references[0][:3]), group))
                columns += [Column(name, list(patches[:3]), group) for name, patches in shown.items()]
        if not columns:
            return []
        half = max(1, len({column.group for column in columns}) // 2)
        groups = list(dict.fromkeys(column.group for column in columns))
        halves = [groups[:half], groups[half:]] if len(groups) > 4 else [groups]
        items = []
        for i, part in enumerate(halves):
            chosen = [column for column in columns if column.group in part]
            by_group = [panel([column for column in chosen if column.group == group]) for group in part]
            caption = "The same references and the same noise, run by run."
            parts = [png_bytes(one) for one in by_group]
            items.append(Picture(f"comparison_patches_{i}.png", png_bytes(panel(chosen)), caption, parts=parts))
        return [Section("Patches", items)]


def _claims(lower: str, upper: str, together: dict[str, Evaluation]) -> list[Claim]:
    names = (lower, upper)
    claims = [run_below(together[lower], together[upper], names)]
    if all(any(cell.paired for cell in _oracle(together[name]).values()) for name in names):
        claims.append(run_below(together[lower], together[upper], names, paired=True))
    return claims


def _oracle(evaluation: Evaluation) -> dict:
    return evaluation.cells[evaluation.judge.distance_name].get(MAIN_ROW, {})
