"""The viewer's page: Bokeh gives panes with tiles, panning, wheel and scale bar, viewer.js joins them.

Coordinates are micrometres from a slide's upper left corner, y upwards, so that slides of different scales share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    Checkbox,
    ColumnDataSource,
    CustomJS,
    Div,
    Range1d,
    ScaleBar,
    WheelZoomTool,
    WMTSTileSource,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from zoomldm.ladder import label
from zoomldm.viewer.pyramid import OBJECTIVE_MPP, TILE_PX, Pyramid

SCRIPT = Path(__file__).with_name("viewer.js")
HEAD = """{% block postamble %}<link rel="icon" href="data:,">
<style>body { background: #f4f4f4; }</style><script>{{ viewer }}</script>{% endblock %}"""
MAGNIFICATIONS, SMALLEST_PX = 8, 32
"""How many have a button, at most, and a slide's side at the lowest."""
CLOSEST_PX = 128
"""The least of a slide that fills a pane."""

NATIVE, ENLARGED = TILE_PX // 2 + 1, TILE_PX + 2
"""How many pixels on the screen a tile has to be wide, at least, to be drawn.

Bokeh draws the finest level whose tiles are not shrunk below that. Of half their size it is the coarsest that is not
enlarged (one pixel more: a level at exactly its own scale is not left for the next), of their size the level above.
"""


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One picture: a figure, the line of text above it and the borders drawn over it."""

    figure: figure
    text: Div
    borders: ColumnDataSource


def tiles_of(slide: Pyramid, *, is_parent: bool) -> WMTSTileSource:
    """Return where a pane's tiles come from: all in a square whose upper left corner is the slide's."""
    side_um, tile_px = TILE_PX * slide.mpp * 2**slide.finest, ENLARGED if is_parent else NATIVE
    return WMTSTileSource(
        url=f"/tiles/{slide.key}/{{Z}}/{{X}}/{{Y}}.png",
        tile_size=tile_px,
        initial_resolution=side_um / tile_px,
        x_origin_offset=0,
        y_origin_offset=side_um,
        max_zoom=max(slide.finest - is_parent, 0),
        wrap_around=False,
    )


def pane_of(slide: Pyramid, *, is_parent: bool) -> Pane:
    """Return the pane that shows a slide, or the level above what that one shows, enlarged."""
    plot = figure(
        x_range=Range1d(0, 1, min_interval=CLOSEST_PX * slide.mpp),
        y_range=Range1d(-1000, 0),  # nobody's shape: Bokeh mends it when it has laid the page out, and viewer.js starts
        tools="" if is_parent else "pan",
        toolbar_location=None,
        x_axis_location=None,
        y_axis_location=None,
        background_fill_color="#dddddd",
        min_border=0,
        sizing_mode="stretch_both",
        visible=not is_parent,
    )
    plot.grid.visible = False
    if not is_parent:
        wheel = WheelZoomTool(zoom_on_axis=False)
        plot.add_tools(wheel)
        plot.toolbar.active_scroll = wheel
    plot.add_tile(tiles_of(slide, is_parent=is_parent))
    borders = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1")})
    plot.segment("x0", "y0", "x1", "y1", source=borders, line_color="#0a7d5a", line_alpha=0.8)
    plot.add_layout(ScaleBar(range=plot.x_range, unit="µm", location="bottom_right"))
    text = Div(text=slide.name, render_as_text=True, css_classes=["above" if is_parent else "seen"])
    return Pane(figure=plot, text=text, borders=borders)


def page_of(slides: Sequence[Pyramid], *, patch_px: int) -> str:
    """Return the page, whole: it asks for tiles and for nothing else.

    Args:
        slides: one or two.
        patch_px: side of the patches whose borders can be shown, at the magnification in view.
    """
    panes = [pane_of(slide, is_parent=is_parent) for slide in slides for is_parent in (False, True)]
    columns = [
        column(pane.text, pane.figure, sizing_mode="stretch_both", visible=pane.figure.visible) for pane in panes
    ]
    switches = _switches(patch_px, num_slides=len(slides))
    models = {
        "figures": [pane.figure for pane in panes],
        "texts": [pane.text for pane in panes],
        "borders": [pane.borders for pane in panes],
        "columns": columns,
        "sizes": [[*slide.size, slide.mpp, slide.finest] for slide in slides],
        "names": [slide.name for slide in slides],
        "switches": switches,
        "patch_px": patch_px,
        "ratio": NATIVE / (TILE_PX / 2),
    }
    for number, pane in enumerate(panes):
        moved = CustomJS(args=models, code=f"viewer.moved({number}, {{{', '.join(models)}}})")
        for one in (pane.figure.x_range, pane.figure.y_range):
            one.js_on_change("start", moved)
            one.js_on_change("end", moved)
    top = row(*_buttons(slides), *switches, sizing_mode="stretch_width")
    beside = [column(*columns[i : i + 2], sizing_mode="stretch_both") for i in (0, 2)] if len(slides) > 1 else columns
    document = Document(title=" and ".join(slide.name for slide in slides))
    document.add_root(column(top, row(*beside, sizing_mode="stretch_both"), sizing_mode="stretch_both"))
    script = SCRIPT.read_text(encoding="utf-8")
    return file_html(document, Resources(mode="inline"), template=HEAD, template_variables={"viewer": script})


def _switches(patch_px: int, *, num_slides: int) -> list[Checkbox]:
    """Return the switches in the order in which viewer.js knows them."""
    switches = {
        "together": Checkbox(label="move together", active=num_slides > 1, visible=num_slides > 1),
        "borders": Checkbox(label=f"borders of {patch_px} px patches"),
        "parent": Checkbox(label="the level above, enlarged"),
    }
    for name, switch in switches.items():
        switch.css_classes = [name]
        switch.js_on_change("active", CustomJS(code=f"viewer.switched('{name}')"))
    return list(switches.values())


def _buttons(slides: Sequence[Pyramid]) -> list[Button]:
    """Return the way back to the whole slide, and one to each magnification that a level has."""
    whole = Button(label="whole slide", width_policy="min")
    whole.js_on_click(CustomJS(code="viewer.whole()"))
    finest = min(slides, key=lambda slide: slide.mpp)
    buttons, mpp, side = [whole], finest.mpp, max(finest.size)
    while side >= SMALLEST_PX and len(buttons) <= MAGNIFICATIONS:
        button = Button(label=label(OBJECTIVE_MPP / mpp), width_policy="min")
        button.js_on_click(CustomJS(code=f"viewer.magnify({mpp})"))
        buttons.append(button)
        mpp, side = mpp * 2, side // 2
    return buttons
