"""Pictures of the report: panels of patches, charts of distances and losses (Matplotlib, Agg).

Legend: k patches, p patch side (px).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from zoomldm.evaluation.result import FRECHET, MAIN_ROW, Cell, Evaluation
from zoomldm.sampling.pictures import Column, panel, stacked

LINE_COLOURS = ("#9b2c5e", "#2b6a99", "#3b8a5a", "#c27c1f", "#6b4fa0", "#4a4a4a", "#b8433b", "#2f8f8f")
MOST_COLUMNS = 9
"""Of patches beside each other."""
Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""Series → magnification → [(step, loss)]."""
_PER_MAGNIFICATION = re.compile(r"^(?P<series>.+)/(?P<label>[0-9.]+x)$")


@dataclass(frozen=True)
class Panel:
    """Patches at each magnification, in one image and in one a magnification."""

    whole: Image
    parts: list[Image]


def figure_2(
    references: dict[str, np.ndarray],
    synthetic: dict[str, np.ndarray],
    *,
    shipped: dict[str, np.ndarray] | None = None,
    num_rows: int = 5,
) -> Panel:
    """Make the panel of the paper's Figure 2: reference | synthetic for each magnification, highest first.

    In the whole as many magnifications stand beside each other as a page shows at full size.

    Args:
        shipped: patches that the model that ships makes of the same conditions, for a third column.
    """
    rows = {"reference": references, "synthetic": synthetic} | ({"model that ships": shipped} if shipped else {})
    groups = [
        [
            Column(title, list(patches[label][:num_rows]), label.replace("x", "×"))
            for title, patches in rows.items()
            if label in patches
        ]
        for label in references
        if label in synthetic
    ]
    abreast = MOST_COLUMNS // len(rows)
    blocks = [[*chain(*groups[start : start + abreast])] for start in range(0, len(groups), abreast)]
    return Panel(stacked([panel(block) for block in blocks]), [panel(group) for group in groups])


def columns_by_magnification(patches: dict[str, np.ndarray], *, num_rows: int = 5) -> Panel:
    """Show a row of the evaluation: one column of patches a magnification."""
    columns = [Column(label.replace("x", "×"), list(images[:num_rows])) for label, images in patches.items()]
    return Panel(panel(columns), [panel([column]) for column in columns])


@dataclass(frozen=True)
class Line:
    """A line of a chart: values at categories or steps, optional standard errors, how it is drawn."""

    name: str
    x: Sequence
    y: Sequence[float]
    errors: Sequence[float | None] | None = None
    dashed: bool = False
    colour: str | None = None
    width: float = 1.5
    hollow: Sequence[bool] | None = None


def chart(
    lines: Sequence[Line], *, x_title: str, y_title: str, categories: Sequence[str] | None = None, log_y: bool = False
) -> bytes:
    """Draw lines and return PNG bytes; with ``categories`` the x are names, in that order. Hollow: not judged."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    draw_lines(axes, lines, categories=categories, log_y=log_y)
    if log_y:
        axes.set_yscale("log")
    axes.set_xlabel(x_title)
    axes.set_ylabel(y_title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e3e8", linewidth=0.7)
    axes.set_axisbelow(True)
    if lines:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_lines(axes: Any, lines: Sequence[Line], *, categories: Sequence[str] | None = None, log_y: bool) -> None:
    """Draw lines on Matplotlib's axes; with ``categories`` as points with errors over names. nan: a gap."""
    for i, line in enumerate(lines):
        colour = line.colour or LINE_COLOURS[i % len(LINE_COLOURS)]
        x = [categories.index(name) for name in line.x] if categories else list(line.x)
        style = {
            "color": colour,
            "linestyle": "--" if line.dashed else "-",
            "linewidth": line.width,
            "label": line.name,
        }
        axes.plot(x, line.y, **style)
        if categories is None:
            continue
        for place, (at, value) in enumerate(zip(x, line.y)):
            hollow = bool(line.hollow and line.hollow[place])
            error = line.errors[place] if line.errors else None
            if error is not None:
                low = max(value - error, value / 100) if log_y else value - error
                axes.plot([at, at], [low, value + error], color=colour, linewidth=1)
            axes.plot([at], [value], "o", color=colour, markersize=4.5, markerfacecolor="white" if hollow else colour)
    if categories:
        axes.set_xticks(range(len(categories)), [name.replace("x", "×") for name in categories], fontsize=8)


def ramp(place: float) -> str:
    """Return a colour from dark blue (0) to yellow (1), for things that have an order."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["plasma"](0.05 + 0.8 * place))


def distance_line(name: str, cells: Sequence[tuple[str, Cell]], *, dashed: bool = False, **style: object) -> Line:
    """Return the line of a row's distances, (magnification, cell); hollow where they are not judged."""
    return Line(
        name,
        [label for label, _ in cells],
        [max(cell.distance.value, 1e-6) for _, cell in cells],
        [cell.distance.error for _, cell in cells],
        dashed=dashed,
        hollow=[cell.judged_by != FRECHET for _, cell in cells],
        **style,
    )


def distance_chart(evaluation: Evaluation) -> bytes:
    """Draw the judging distance of every row by magnification, PNG bytes."""
    lines = []
    for row in sorted(evaluation.row_infos, key=lambda row: row.name == MAIN_ROW):  # the thick line on top
        cells = [(label, cell) for label in evaluation.magnifications if (cell := evaluation.cell(row.name, label))]
        width = 2.6 if row.name == MAIN_ROW else 1.4
        lines.append(distance_line(row.title, cells, dashed=not row.is_synthetic, colour=row.colour, width=width))
    title = f"{evaluation.judge.distance_name} (log)"
    return chart(lines, x_title="magnification", y_title=title, categories=evaluation.magnifications, log_y=True)


def loss_chart(series: str, by_label: dict[str, list[tuple[int, float]]]) -> bytes:
    """Draw a loss over the steps, a line a magnification, PNG bytes."""
    labels = sorted(by_label, key=lambda label: -float(label.rstrip("x")))
    lines = [
        Line(label, *zip(*by_label[label]), colour=ramp(i / max(1, len(labels) - 1))) for i, label in enumerate(labels)
    ]
    return chart(lines, x_title="step", y_title=series, log_y=True)


def loss_curves(path: Path | None) -> Curves:
    """Read series → magnification → [(step, loss)] from a ``metrics.jsonl``; empty without one."""
    curves: Curves = {}
    if path is None or not Path(path).is_file():
        return curves
    for line in Path(path).read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        match = _PER_MAGNIFICATION.match(entry.get("name", ""))
        if match and "loss" in match["series"] and entry.get("value") is not None:
            curves.setdefault(match["series"], {}).setdefault(match["label"], []).append(
                (entry["step"], entry["value"])
            )
    return curves
