"""A strip of pictures of the viewer, from the whole slide to 20x: a synthetic slide above, a real one below.

python benchmarks/viewer_strip.py synthetic.ome.tiff real.svs      docs/viewer_strip.jpg; what tests of the page need

Every picture is what a pane shows. One looks at the place of each slide that holds the most dark pixels, or at --at.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.browser import Shown, in_browser
from zoomldm.config import PROJECT_ROOT
from zoomldm.viewer.pyramid import OBJECTIVE_MPP, Pyramid

MAGNIFICATIONS = (2.5, 5, 10, 20)
"""After the whole slide."""
PANE_PX, HEAD_PX, GAP_PX = 200, 60, 4
"""Side of a pane; what is left of the window for buttons and lines of text; between pictures."""
LARGEST, QUALITIES = 150_000, (92, 88, 84, 80, 75, 70)
"""Bytes of the strip, and the qualities of JPEG that are tried."""
DRAWN_MS = 1500
"""Until Bokeh has drawn the tiles that it has."""
CUT, THUMBNAIL_PX = 24, 768
"""A thumbnail is cut into so many squares along its longer side; one of them is looked at."""
LOOK = """([places, um]) => {
    const models = [...Bokeh.documents[0].all_models];
    models.find((one) => one.type === 'Checkbox').active = false;  // each slide has a place of its own
    models.filter((one) => one.type === 'Figure' && one.visible).forEach(({x_range, y_range}, pane) => {
        for (const [range, middle] of [[x_range, places[pane][0]], [y_range, -places[pane][1]]]) {
            const half = (range.end - range.start) / 2;
            range.setv({start: middle - half, end: middle + half});
        }
    });
    viewer.magnify(um);
}"""
"""What people do by mouse and buttons, for which so small a window has no room; places are in micrometres."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs=2, type=Path, help="the synthetic one and the real one")
    parser.add_argument("--at", nargs=2, type=float, metavar=("X", "Y"), help="where to look, as parts of each slide")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / "docs" / "viewer_strip.jpg")
    chosen = parser.parse_args()
    slides = [Pyramid(path) for path in chosen.slides]
    for slide in slides:
        slide.name = slide.name.partition(".")[0]
    places = [chosen.at or darkest(path) for path in chosen.slides]
    with in_browser(slides, width=2 * PANE_PX, height=PANE_PX + HEAD_PX) as shown:
        write(strip(shown, places), chosen.out)


def darkest(path: Path) -> tuple[float, float]:
    """Return the middle of the square of a slide with the most dark pixels, as parts of its width and height."""
    with openslide.OpenSlide(path) as slide:
        grey = np.asarray(slide.get_thumbnail((THUMBNAIL_PX, THUMBNAIL_PX)).convert("L"), np.float32)
    side = THUMBNAIL_PX // CUT
    rows, columns = (length // side for length in grey.shape)
    means = grey[: rows * side, : columns * side].reshape(rows, side, columns, side).mean((1, 3))
    row, column = divmod(int(means.argmin()), columns)
    return (column + 0.5) * side / grey.shape[1], (row + 0.5) * side / grey.shape[0]


def strip(shown: Shown, places: list[tuple[float, float]]) -> Image.Image:
    """Zoom into a place of each slide, and put pictures of both panes side by side."""
    page, columns = shown.page, []
    sizes = [[side * slide.mpp for side in slide.size] for slide in shown.slides]
    places_um = [(x * width, y * height) for (x, y), (width, height) in zip(places, sizes)]
    for magnification in (None, *MAGNIFICATIONS):
        if magnification:
            page.evaluate(LOOK, [places_um, OBJECTIVE_MPP / magnification])
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(DRAWN_MS)
        columns.append([picture(shown, pane) for pane in range(len(shown.slides))])
    return beside([beside(column, axis=0) for column in columns], axis=1)


def picture(shown: Shown, pane: int) -> Image.Image:
    """Take a picture of a pane, with the line above it."""
    text, plot = (shown.page.locator(name).nth(pane).bounding_box() for name in (".seen", ".bk-Figure:visible"))
    clip = {
        "x": plot["x"],
        "y": text["y"],
        "width": plot["width"],
        "height": plot["y"] + plot["height"] - text["y"],
    }
    return Image.open(io.BytesIO(shown.page.screenshot(clip=clip))).convert("RGB")


def beside(pictures: list[Image.Image], *, axis: int) -> Image.Image:
    """Put pictures above each other (axis 0) or side by side (1), a gap between them, upper left corners aligned."""
    sizes = np.array([one.size[::-1] for one in pictures])
    whole = sizes.max(0)
    whole[axis] = sizes[:, axis].sum() + GAP_PX * (len(pictures) - 1)
    sheet, at = Image.new("RGB", tuple(whole[::-1].tolist()), "white"), 0
    for one in pictures:
        sheet.paste(one, (at, 0) if axis else (0, at))
        at += one.size[1 - axis] + GAP_PX
    return sheet


def write(image: Image.Image, path: Path) -> None:
    """Write a JPEG of the best quality that is not too large."""
    for quality in QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= LARGEST:
            break
    path.write_bytes(stream.getvalue())
    print(f"{path}: {image.width} x {image.height} px, quality {quality}, {stream.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()
