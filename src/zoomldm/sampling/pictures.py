"""Pictures of patches: contact sheets, the panel of Figure 2, curves. PIL for patches, Matplotlib (Agg) for curves.

Legend: k patches, p patch side (px). Small patches are enlarged by repeating pixels, never smoothed.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = (38, 34, 41), (120, 112, 124), (255, 255, 255)
GAP_PX, TEXT_PX = 6, 15
LINE_COLOURS = ("#9b2c5e", "#2b6a99", "#3b8a5a", "#c27c1f", "#6b4fa0", "#4a4a4a", "#b8433b", "#2f8f8f")


@dataclass(frozen=True)
class Column:
    """A column of a panel: a heading and patches uint8 (k, p, p, 3), or None for an empty place."""

    heading: str
    patches: Sequence[np.ndarray | None]
    group: str = ""


def enlarge(patch: np.ndarray, side_px: int) -> Image.Image:
    """Bring a patch (p, p, 3) to about ``side_px``: whole repeats of pixels upwards, box averages downwards."""
    side = patch.shape[0]
    if side < side_px:
        factor = max(1, side_px // side)
        return Image.fromarray(patch.repeat(factor, 0).repeat(factor, 1))
    return Image.fromarray(patch) if side == side_px else Image.fromarray(patch).resize((side_px,) * 2, Image.BOX)


def panel(columns: Sequence[Column], *, side_px: int = 96, title: str = "") -> Image.Image:
    """Lay patches out in labelled columns; columns of one group stand together under the group's name."""
    shown = next((p for column in columns for p in column.patches if p is not None), None)
    if shown is None:
        raise ValueError("panel: no patch to show")
    cell = enlarge(shown, side_px).width
    num_rows = max(len(column.patches) for column in columns)
    grouped = any(column.group for column in columns)
    top = GAP_PX + (TEXT_PX + 10 if title else 0) + (TEXT_PX + 6 if grouped else 0) + TEXT_PX + 4
    lefts, x = [], 2 * GAP_PX
    for i, column in enumerate(columns):
        if i and column.group != columns[i - 1].group:
            x += 2 * GAP_PX
        lefts.append(x)
        x += cell + GAP_PX // 2
    canvas = Image.new("RGB", (x + 2 * GAP_PX, top + num_rows * (cell + GAP_PX // 2) + GAP_PX), PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((2 * GAP_PX, GAP_PX), title, INK, font=_font(TEXT_PX + 2))
    for i, (left, column) in enumerate(zip(lefts, columns)):
        if column.group and (i == 0 or columns[i - 1].group != column.group):
            last = max(j for j, other in enumerate(columns) if other.group == column.group)
            centre = (left + lefts[last] + cell) // 2
            y = top - 2 * TEXT_PX - 8
            draw.text((centre, y), column.group, INK, font=_font(TEXT_PX), anchor="ma")
        font = _fitting_font(draw, column.heading, cell)
        draw.text((left + cell // 2, top - TEXT_PX - 3), column.heading, FAINT, font=font, anchor="ma")
        for row, patch in enumerate(column.patches):
            y = top + row * (cell + GAP_PX // 2)
            if patch is None:
                draw.rectangle((left, y, left + cell - 1, y + cell - 1), outline=(225, 222, 226))
            else:
                canvas.paste(enlarge(patch, side_px), (left, y))
    return canvas


def contact_sheet(
    patches: np.ndarray, *, title: str = "", references: np.ndarray | None = None, side_px: int = 128
) -> Image.Image:
    """Lay patches (k, p, p, 3) out in a square; with references, each stands at the right of its own reference."""
    num_columns = max(1, math.ceil(math.sqrt(len(patches))))
    columns = []
    for start in range(num_columns):
        chosen = list(patches[start::num_columns])
        if references is None:
            columns.append(Column("", chosen))
        else:
            columns.append(Column("reference", list(references[start::num_columns]), str(start + 1)))
            columns.append(Column("synthetic", chosen, str(start + 1)))
    return panel(columns, side_px=side_px, title=title)


def figure_2(
    references: dict[str, np.ndarray], synthetic: dict[str, np.ndarray], *, num_rows: int = 5, side_px: int = 96
) -> Image.Image:
    """Make the panel of the paper's Figure 2: reference | synthetic for each magnification, highest first."""
    columns = []
    for label in references:
        if label in synthetic:
            columns.append(Column("reference", list(references[label][:num_rows]), label.replace("x", "×")))
            columns.append(Column("synthetic", list(synthetic[label][:num_rows]), label.replace("x", "×")))
    return panel(columns, side_px=side_px)


def columns_by_magnification(
    patches: dict[str, np.ndarray], *, num_rows: int = 5, side_px: int = 96, title: str = ""
) -> Image.Image:
    """Show a row of the evaluation: one column of patches a magnification."""
    columns = [Column(label.replace("x", "×"), list(images[:num_rows])) for label, images in patches.items()]
    return panel(columns, side_px=side_px, title=title)


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


def ramp(place: float) -> str:
    """Return a colour from dark blue (0) to yellow (1), for things that have an order."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["plasma"](0.05 + 0.8 * place))


def png_bytes(image: Image.Image) -> bytes:
    """Return a picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def patch_png(patch: np.ndarray) -> bytes:
    """Return a patch (p, p, 3) as PNG bytes, pixel by pixel."""
    return png_bytes(Image.fromarray(patch))


def _font(size_px: int):
    """Return Matplotlib's own font, which is there wherever the pictures are made; PIL's otherwise."""
    try:
        from matplotlib import font_manager

        return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size_px - 2)
    except (ImportError, OSError):
        return ImageFont.load_default(size_px - 2)


def _fitting_font(draw: ImageDraw.ImageDraw, text: str, width_px: int):
    size = TEXT_PX
    while size > 9 and draw.textlength(text, font=_font(size)) > width_px:
        size -= 1
    return _font(size)
