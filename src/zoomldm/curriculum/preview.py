"""What a run would see, before it starts: the curriculum as a table and as a picture (plan=true)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoomldm.curriculum.base import Curriculum
from zoomldm.ladder import Ladder

MOST_POINTS = 400


def preview_table(curriculum: Curriculum, ladder: Ladder, *, steps: int, global_batch: int) -> str:
    """Return a table (Markdown) of patches, samples and epochs of each magnification over the whole run."""
    seen = curriculum.samples_until(steps, global_batch)
    first, last = curriculum.probabilities(0), curriculum.probabilities(max(0, steps - 1))
    lines = [
        f"{steps:,} steps × {global_batch} = {steps * global_batch:,} samples",
        "",
        "| magnification | patches | samples | epochs | share at first | at the end |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for k in np.flatnonzero(curriculum.counts):
        count = int(curriculum.counts[k])
        lines.append(
            f"| {ladder[int(k)].label} | {count:,} | {seen[k]:,.0f} | {seen[k] / count:,.2f} "
            f"| {first[k]:.1%} | {last[k]:.1%} |"
        )
    absent = [rung.label for rung in ladder.rungs if curriculum.counts[rung.index] == 0]
    if absent:
        lines += ["", f"without training patches: {', '.join(absent)}"]
    return "\n".join(lines)


def draw_preview(
    curriculum: Curriculum, ladder: Ladder, *, steps: int, global_batch: int, path: Path, title: str
) -> Path:
    """Draw p(magnification | step) as stacked areas, and the epochs of each magnification beside it; a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rungs = np.flatnonzero(curriculum.counts)
    at = _steps_to_draw(curriculum, steps)
    shares = np.stack([curriculum.probabilities(int(step))[rungs] for step in at], axis=1)
    epochs = curriculum.samples_until(steps, global_batch)[rungs] / curriculum.counts[rungs]
    labels = [ladder[int(k)].label for k in rungs]
    shades = [(0.15 + 0.75 * i / max(1, len(rungs) - 1)) for i in range(len(rungs))]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    from matplotlib import colormaps

    colours = [colormaps["plasma"](shade) for shade in shades]
    left.stackplot(at, shares, labels=labels, colors=colours, step="post")
    left.set(xlim=(0, steps), ylim=(0, 1), xlabel="step", ylabel="p(magnification | step)", title=title)
    left.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, reverse=True)
    right.barh(labels, epochs, color=colours)
    right.set(xscale="log", xlabel="epochs (times each patch is seen)")
    for place, value in enumerate(epochs):
        right.annotate(f" {value:,.3g}", (value, place), va="center", fontsize=8)
    right.margins(x=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _steps_to_draw(curriculum: Curriculum, steps: int) -> np.ndarray:
    """Return the steps at which the probabilities change, thinned out, with both ends."""
    changes = [step for step in curriculum.changes if step < steps]
    kept = changes[:: max(1, len(changes) // MOST_POINTS)]
    return np.array(sorted({0, *kept, steps}))
