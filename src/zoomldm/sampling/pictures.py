"""Pictures of patches: labelled columns and contact sheets.

Legend: k patches, p patch side (px). Small patches are enlarged by repeating pixels, never smoothed.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

INK, FAINT, PAPER = (38, 34, 41), (120, 112, 124), (255, 255, 255)
GAP_PX, TEXT_PX = 6, 15


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
    if title:
        x = max(x, 2 * GAP_PX + math.ceil(_font(TEXT_PX + 2).getlength(title)))
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


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Lay pictures out below each other."""
    width, height = max(one.width for one in pictures), sum(one.height for one in pictures)
    canvas, y = Image.new("RGB", (width, height), PAPER), 0
    for one in pictures:
        canvas.paste(one, (0, y))
        y += one.height
    return canvas


def contact_sheet(
    patches: np.ndarray,
    *,
    title: str = "",
    references: np.ndarray | None = None,
    side_px: int = 128,
    num_columns: int | None = None,
) -> Image.Image:
    """Lay patches (k, p, p, 3) out in a square; with references, each stands at the right of its own reference.

    Args:
        num_columns: in rows of so many instead.
    """
    num_columns = num_columns or max(1, math.ceil(math.sqrt(len(patches))))
    columns = []
    for start in range(num_columns):
        chosen = list(patches[start::num_columns])
        if references is None:
            columns.append(Column("", chosen))
        else:
            columns.append(Column("reference", list(references[start::num_columns]), str(start + 1)))
            columns.append(Column("synthetic", chosen, str(start + 1)))
    return panel(columns, side_px=side_px, title=title)


def png_bytes(image: Image.Image, text: Mapping[str, str] = {}) -> bytes:
    """Return a picture as PNG bytes, with texts in its metadata by keyword."""
    buffer, metadata = io.BytesIO(), PngInfo()
    for keyword, words in text.items():
        metadata.add_text(keyword, words)
    image.save(buffer, format="PNG", optimize=True, pnginfo=metadata)
    return buffer.getvalue()


def patch_png(patch: np.ndarray, text: Mapping[str, str]) -> bytes:
    """Return a patch (p, p, 3) as PNG bytes, pixel by pixel, with texts in its metadata by keyword."""
    return png_bytes(Image.fromarray(patch), text)


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
