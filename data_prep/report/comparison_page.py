"""The comparison of two data sets as a page, a table in Markdown and one of every slide's figures."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_prep.report.comparison import WHOLE, Finding, Found
from zoomldm.errors import counted
from zoomldm.evaluation.report.page import Page, Picture, Section, Table, table_to_markdown
from zoomldm.evaluation.report.pictures import figure_2
from zoomldm.files import write_atomically
from zoomldm.sampling.pictures import png_bytes

HEAD = ("", "magnification", "synthetic", "real", "outside")
HOW = (
    "Median over the slides of each set, in brackets the least and the greatest. Outside: how many of the synthetic "
    "slides lie beyond the range of the real ones. A distance of a synthetic slide is to the patches of all real "
    "slides, that of a real one to those of the others, by as many patches of each slide; a slide with fewer than four "
    "for each number of the description has none."
)
EXAMPLES = 5


def table_of(findings: Sequence[Finding]) -> Table:
    """Return the figures as a table, those outside strong."""
    rows = [
        (
            one.name,
            one.label if one.label != WHOLE else "slide",
            _spread(one.synthetic),
            _spread(one.real),
            f"{one.outside} of {len(one.synthetic)}" if len(one.real) > 1 else "–",
        )
        for one in sorted(findings, key=lambda one: _place(one, findings))
    ]
    styles = ["strong" if row[-1][0] not in "0–" else "" for row in rows]
    return Table(head=HEAD, rows=rows, styles=styles)


def _place(finding: Finding, findings: Sequence[Finding]) -> tuple[int, int]:
    """Order by what is measured, then by magnification as it comes: so one sees how a figure goes down the ladder."""
    names = list(dict.fromkeys(one.name for one in findings))
    return names.index(finding.name), findings.index(finding)


def _spread(values: dict[str, float]) -> str:
    numbers = list(values.values())
    median = f"{np.median(numbers):.3g}"
    return median if len(numbers) == 1 else f"{median} ({min(numbers):.3g} to {max(numbers):.3g})"


def examples_of(found: Found, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Return patches of as many slides by magnification, uint8 (k, p, p, 3)."""
    by_label = {label: [one.example[label] for one in found.values() if label in one.example] for label in labels}
    return {label: np.stack(patches[:EXAMPLES]) for label, patches in by_label.items() if patches}


def write_comparison(
    folder: Path, findings: Sequence[Finding], synthetic: Found, real: Found, *, names: tuple[str, str]
) -> Path:
    """Write ``index.html``, ``comparison.md``, ``patches.png`` and ``slides.csv`` into a folder; return the page."""
    labels = list(dict.fromkeys(one.label for one in findings if one.label != WHOLE))
    title = f"What preparation finds: {names[0]} beside {names[1]}"
    numbers = f"{counted(len(synthetic), 'synthetic slide')}, {counted(len(real), 'real slide')}"
    items: list = [table_of(findings)]
    both = [examples_of(found, labels) for found in (real, synthetic)]
    if both[0].keys() & both[1].keys():
        shown = figure_2(both[0], both[1], num_rows=EXAMPLES)
        caption = "A patch of each slide, of five slides at most: real (reference) and synthetic."
        parts = [png_bytes(one) for one in shown.parts]
        items.append(Picture("patches.png", png_bytes(shown.whole), caption, parts=parts))
    page = Page(title=title, lead=numbers, facts=HOW, sections=[Section("Figures", items)])
    write_atomically(folder / "slides.csv", csv_of(findings))
    return page.write(folder, markdown="comparison.md", html="index.html")


def csv_of(findings: Sequence[Finding]) -> str:
    """Return every slide's figures as a CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("figure", "magnification", "set", "slide", "value"))
    for one in findings:
        for kind, values in (("synthetic", one.synthetic), ("real", one.real)):
            writer.writerows((one.name, one.label, kind, slide, value) for slide, value in values.items())
    return stream.getvalue()


def lines_of(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the table for a terminal."""
    yield from table_to_markdown(table_of(findings)).splitlines()
