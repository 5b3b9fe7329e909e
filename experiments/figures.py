"""Draw the figures of docs/results.md from what the experiments' runs were measured to be.

    python experiments/figures.py [curriculum edm …]

What was measured lies in ``experiments/<name>/results.json`` (and ``results_<part>.json``): the ``comparison.json``
that ``src/compare.py`` writes of the experiment's runs. Each is drawn to ``docs/<name>.png``.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PROJECT_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT_ROOT / "src")]

from zoomldm.cli import user_errors  # noqa: E402
from zoomldm.errors import UserError  # noqa: E402
from zoomldm.evaluation.report.figures import DISTANCE, FORMAT_VERSION, KIND  # noqa: E402
from zoomldm.evaluation.report.pictures import LINE_COLOURS, draw_lines, ramp  # noqa: E402
from zoomldm.evaluation.report.pictures import Line as Drawn  # noqa: E402
from zoomldm.files import write_atomically  # noqa: E402

EXPERIMENTS, DOCS = PROJECT_ROOT / "experiments", PROJECT_ROOT / "docs"
HELD_OUT = "unseen.frechet"
DRAWN_OF = "zoomldm:results"
"""The text in a picture that holds the hash of what it was drawn of."""
REAL_COLOUR = "#8a8a8a"
POINTS = {"marker": "o", "markersize": 4}
LOG_TICKS = (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
EDM = "edm_{}-pyramid-film"
FILM = "zoomldm_tiny-pyramid-film"


class Figures(NamedTuple):
    """A measure by magnification: values and standard errors, nan where there is none; whether it can be judged."""

    value: np.ndarray
    error: np.ndarray
    is_judged: np.ndarray


@dataclass(frozen=True)
class Line:
    """A line of a panel: a run's row. part: of results_<part>.json."""

    name: str
    run: str
    row: str = "oracle"
    part: str = ""
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines by magnification.

    Attributes:
        over: the row of the same run that each is divided by; band: what the paper has, from and to.
    """

    title: str
    lines: Sequence[Line]
    measure: str = DISTANCE
    y_title: str = "fd_texture, oracle conditions"
    is_log: bool = False
    over: str = ""
    band: tuple[float, float] | None = None

    def draw(self, axes: Any, experiment: Experiment) -> None:
        labels = experiment.magnifications
        draw_lines(axes, [self._line(line, experiment) for line in self.lines], categories=labels, log_y=self.is_log)
        if self.band:
            axes.axhspan(*self.band, color="#cccccc", alpha=0.5, linewidth=0, label="the paper's")
        _finish(axes, self.title, self.y_title, is_log=self.is_log)

    def _line(self, line: Line, experiment: Experiment) -> Drawn:
        value, error, is_judged = experiment.figures(line.run, line.row, self.measure, part=line.part)
        if self.over:
            value = value / experiment.figures(line.run, self.over, self.measure, part=line.part).value
        style = {"dashed": line.dashed, "colour": experiment.colour(line.name), "hollow": (~is_judged).tolist()}
        errors = None if self.over else error.tolist()
        return Drawn(line.name, experiment.magnifications, value.tolist(), errors, **style)


class Curve(NamedTuple):
    """A measure of a run's rows, by what the rows differ in (a guidance scale, a number of steps)."""

    rows: Mapping[float, str]
    measure: str
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class ByRow:
    """What a run's rows differ in, along an axis: a curve's measure at each magnification, or means of some curves.

    Attributes:
        curves: one, whose lines are magnifications, or by name those of means; default: the place that is marked.
        log_x, log_y: which axes are logarithmic.
    """

    title: str
    curves: Curve | Mapping[str, Curve]
    x_title: str
    y_title: str
    default: float
    log_x: bool = False
    log_y: bool = False

    def draw(self, axes: Any, experiment: Experiment) -> None:
        if isinstance(self.curves, Curve):
            places = [*self.curves.rows]
            self._draw_magnifications(axes, experiment, self.curves)
        else:
            places = sorted({place for curve in self.curves.values() for place in curve.rows})
            for i, (name, (rows, measure, dashed)) in enumerate(self.curves.items()):
                means = [experiment.figures(FILM, row, measure).value.mean() for row in rows.values()]
                style = {"color": LINE_COLOURS[i], "linestyle": "--" if dashed else "-", **POINTS}
                axes.plot([*rows], means, label=name, **style)
        axes.axvline(self.default, color="#888888", linestyle=":")
        axes.set_xlabel(self.x_title)
        if self.log_x:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(places, [f"{place:g}" for place in places])
        _finish(axes, self.title, self.y_title, is_log=self.log_y, legend_columns=4 if len(axes.lines) > 5 else 2)

    def _draw_magnifications(self, axes: Any, experiment: Experiment, curve: Curve) -> None:
        labels = experiment.magnifications
        found = [experiment.figures(FILM, row, curve.measure) for row in curve.rows.values()]
        for i, label in enumerate(labels):
            colour, is_judged = ramp(i / (len(labels) - 1)), all(one.is_judged[i] for one in found)
            style = {"color": colour, "markerfacecolor": colour if is_judged else "white", **POINTS}
            axes.plot([*curve.rows], [one.value[i] for one in found], label=label.replace("x", "×"), **style)


def _by_steps(solver: str) -> dict[float, str]:
    return {steps: f"{solver}_{steps}" for steps in (5, 10, 20, 50)}


SCALES = {1: "guidance_1", 1.5: "guidance_1.5", 1.75: "oracle", 2: "guidance_2", 2.5: "guidance_2.5", 3: "guidance_3"}
SOLVERS = {"DDIM": _by_steps("ddim"), "DPM-Solver++": _by_steps("dpmpp")}
PRECISION, RECALL = "precision_recall.precision", "precision_recall.recall"
ENCODERS = (
    Line("designed (stats)", "pyramid"),
    Line("learnt (mae_tiny)", "pyramid_mae_tiny"),
    Line("random", "pyramid_random"),
)
EDMS = (
    Line("plain", EDM.format("plain")),
    Line("v", EDM.format("v")),
    Line("cosine", EDM.format("cosine")),
    Line("wide", EDM.format("wide")),
    Line("deep", EDM.format("deep")),
    Line("zooming", EDM.format("zooming")),
    Line("plain, guided", EDM.format("plain"), part="guided", dashed=True),
)
FIGURES: dict[str, list[Panel | ByRow]] = {
    "curriculum": [
        Panel(
            title="distance to held-out patients, by curriculum",
            lines=[
                Line("uniform", "uniform"),
                Line("tempered", "tempered"),
                Line("coarse to fine", "coarse_to_fine"),
                Line("fine to coarse", "fine_to_coarse"),
                Line("proportional", "proportional", dashed=True),
                Line("real training patches", "uniform", "halves", dashed=True),
            ],
            measure=HELD_OUT,
            is_log=True,
        )
    ],
    "edm": [
        Panel(
            title="conditions of the training set, and generated ones",
            lines=[
                Line("oracle conditions", EDM.format("plain"), "real_conditions"),
                *EDMS,
                Line("real", EDM.format("plain"), "halves", dashed=True),
            ],
            y_title="fd_texture",
            is_log=True,
        ),
        Panel(
            title="generated / oracle",
            lines=EDMS,
            y_title="ratio",
            over="real_conditions",
            band=(0.9, 1.9),
            is_log=True,
        ),
    ],
    "conditioning": [
        Panel(
            title="six ways to condition",
            lines=[
                Line("film", "film", part="first"),
                Line("cnn", "cnn", part="first"),
                Line("vit", "vit"),
                Line("pool", "pool"),
                Line("mag", "mag", part="first", dashed=True),
                Line("none", "none", part="first", dashed=True),
            ],
        ),
        Panel(
            title="one trained model, asked otherwise",
            lines=[
                Line("film", "film", part="first"),
                Line("film, told none", "film", "untold", part="first", dashed=True),
                Line("film, told a wrong one", "film", "wrong_magnification", part="first", dashed=True),
            ],
        ),
    ],
    "encoder": [
        Panel(
            title="distance to training patches, by encoder of the condition",
            lines=(*ENCODERS, Line("real, other half", "pyramid", "halves", dashed=True)),
        ),
        Panel(
            title="each patch to its own reference",
            lines=ENCODERS,
            measure="paired",
            y_title="squared distance (texture)",
        ),
    ],
    "table1": [
        Panel(
            title=f"distance to {where}",
            lines=[
                Line("one of all eight", "unified"),
                Line("standalone, as much compute", "single compute"),
                Line("standalone, as many samples", "single samples", dashed=True),
                Line("real", "unified", "halves", dashed=True),
            ],
            measure=measure,
            is_log=True,
        )
        for where, measure in (("training patches", DISTANCE), ("held-out patients", HELD_OUT))
    ],
    "guidance": [
        ByRow(
            title="distance",
            curves=Curve(SCALES, DISTANCE),
            y_title="fd_texture, oracle conditions",
            x_title="guidance scale",
            default=1.75,
        ),
        ByRow(
            title="precision and recall",
            curves={"precision": Curve(SCALES, PRECISION), "recall": Curve(SCALES, RECALL)},
            y_title="mean of eight magnifications",
            x_title="guidance scale",
            default=1.75,
        ),
    ],
    "solver": [
        *(
            ByRow(
                title=f"distance, {name}",
                curves=Curve(rows, DISTANCE),
                y_title="fd_texture, oracle conditions",
                x_title="steps",
                default=20,
                log_x=True,
                log_y=True,
            )
            for name, rows in SOLVERS.items()
        ),
        ByRow(
            title="precision and recall",
            curves={
                f"{what}, {name}": Curve(rows, measure, dashed=what == "recall")
                for what, measure in (("precision", PRECISION), ("recall", RECALL))
                for name, rows in SOLVERS.items()
            },
            y_title="mean of eight magnifications",
            x_title="steps",
            default=20,
            log_x=True,
        ),
    ],
}


class Experiment:
    """What was measured of an experiment's runs.

    Raises:
        UserError: there is no such file, or it is no comparison.
    """

    def __init__(self, name: str, folder: Path = EXPERIMENTS) -> None:
        self.folder = folder / name
        self._colours: dict[str, str] = {}
        self._contents: dict[str, dict[str, Any]] = {}
        self.magnifications: list[str] = self._read("")["magnifications"]

    @property
    def sha256(self) -> str:
        """The hash of all that was measured, by which its figure can be told from an outdated one."""
        return hashlib.sha256(
            b"".join(path.read_bytes() for path in sorted(self.folder.glob("results*.json")))
        ).hexdigest()

    def colour(self, name: str) -> str:
        """Return the colour of what is called so in all panels."""
        if name.startswith("real"):
            return REAL_COLOUR
        return self._colours.setdefault(name, LINE_COLOURS[len(self._colours) % len(LINE_COLOURS)])

    def figures(self, run: str, row: str, measure: str, part: str = "") -> Figures:
        """Return a measure of a run's row by magnification.

        Raises:
            UserError: it is not among the results.
        """
        content = self._read(part)
        try:
            of_row = content["runs"][run]["rows"][row]
            found, judged_by = of_row[measure], of_row["judged_by"]
        except KeyError as error:
            raise UserError(f"{self._path(part)}: has no {run}, {row}, {measure} ({error} is missing)") from None
        at = {label: i for i, label in enumerate(content["magnifications"])}
        places = [at.get(label) for label in self.magnifications]
        is_judged = [measure != DISTANCE or place is None or judged_by[place] != "" for place in places]  # pairs always
        values = (np.array([*_numbers(found[name], places)]) for name in ("value", "error"))
        return Figures(*values, np.array(is_judged))

    def _path(self, part: str) -> Path:
        return self.folder / (f"results_{part}.json" if part else "results.json")

    def _read(self, part: str) -> dict[str, Any]:
        if part in self._contents:
            return self._contents[part]
        try:
            content = json.loads(self._path(part).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{self._path(part)}: expected the comparison.json of src/compare.py ({error})") from None
        known = {"kind": KIND, "format_version": FORMAT_VERSION}
        is_whole = isinstance(content, dict) and {"magnifications", "runs"} <= content.keys()
        if not is_whole or not known.items() <= content.items():
            raise UserError(f"{self._path(part)}: expected the comparison.json of this version's src/compare.py")
        return self._contents.setdefault(part, content)


def _numbers(values: Sequence[float | None], places: Sequence[int | None]) -> Iterator[float]:
    for place in places:
        yield np.nan if place is None or values[place] is None else values[place]


def _finish(axes: Any, title: str, y_title: str, *, is_log: bool, legend_columns: int = 1) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_ylabel(y_title)
    if is_log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=legend_columns)


def _share_y(axes: Sequence[Any]) -> None:
    """Give panels of one measure one range, to be compared by eye, and logarithmic ones readable ticks."""
    for title in {one.get_ylabel() for one in axes}:
        group = [one for one in axes if one.get_ylabel() == title]
        low, high = (pick(bound) for pick, bound in zip((min, max), zip(*(one.get_ylim() for one in group))))
        for one in group:
            one.set_ylim(low, high)
            if one.get_yscale() == "log":
                ticks = [tick for tick in LOG_TICKS if low <= tick <= high]
                one.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
                one.minorticks_off()


def drawn(name: str, folder: Path = EXPERIMENTS, docs: Path = DOCS) -> Path:
    """Draw an experiment's panels beside each other and return the picture's path."""
    from matplotlib.figure import Figure

    experiment, panels = Experiment(name, folder), FIGURES[name]
    figure = Figure(figsize=(5.6 * len(panels) + 1.4 * (len(panels) == 1), 3.8), dpi=100, layout="constrained")
    axes = [*np.atleast_1d(figure.subplots(1, len(panels)))]
    for one, panel in zip(axes, panels):
        panel.draw(one, experiment)
    _share_y(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None, DRAWN_OF: experiment.sha256})
    path = docs / f"{name}.png"
    write_atomically(path, buffer.getvalue())
    return path


def main(names: Sequence[str]) -> None:
    """Draw the named experiments, or all that have results.

    Raises:
        UserError: a name that is no experiment's with a figure.
    """
    for name in names:
        if name not in FIGURES:
            raise UserError(f"{name}: expected one of {', '.join(FIGURES)}")
    for name in names or [name for name in FIGURES if (EXPERIMENTS / name / "results.json").is_file()]:
        print(drawn(name))


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
