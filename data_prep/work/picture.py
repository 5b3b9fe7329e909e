"""The pictures of one slide on the QC page: its thumbnail with the mask, the encoded tiles, some regions; its focus."""

import io

import numpy as np
from PIL import Image, ImageDraw

from data_prep.fold.regions import RungRegions
from data_prep.tissue.focus import SOFT
from data_prep.tissue.mask import TissueMask

MAX_SIDE_PX = 900
EDGE, KEPT, REGION = (0, 140, 50), (30, 80, 230), (240, 110, 0)
BLURRED, HALF, SHARP = (np.array(colour) for colour in ((200, 0, 0), (240, 200, 0), (0, 140, 50)))
PALE = 0.6  # how far the colours of tiles that were not encoded go towards white


def picture_of(mask: TissueMask, kept: np.ndarray, regions: list[RungRegions]) -> bytes:
    """Return a JPEG: thumbnail, pale but for the encoded tiles, these and the mask outlined, some lowest regions.

    Args:
        kept: (tiles_y, tiles_x) bool, the tiles that were encoded.
        regions: of every rung, the finest first.
    """
    height, width = mask.tissue.shape
    factor = min(1.0, MAX_SIDE_PX / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    pixels = np.array(Image.fromarray(mask.thumbnail).resize(size, Image.Resampling.BOX))
    small_mask, small_kept = (
        np.asarray(Image.fromarray(area).resize(size, Image.Resampling.NEAREST)) for area in (mask.tissue, kept)
    )
    pale = pixels[~small_kept]
    pixels[~small_kept] = (pale + (255 - pale) * PALE).astype(np.uint8)
    pixels[_outline(small_kept)] = KEPT
    pixels[_outline(small_mask)] = EDGE
    picture = Image.fromarray(pixels)
    lowest = next((chosen for chosen in reversed(regions) if len(chosen)), None)
    if lowest is not None:
        _draw_regions(picture, lowest, tile_px=height // kept.shape[0] * factor)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def focus_picture(focus: np.ndarray) -> bytes:
    """Return a PNG of a slide's focus, a pixel a tile: red up to ``SOFT``, by yellow to green at twice that.

    Tiles that were not encoded are white.
    """
    above = np.clip(focus / SOFT - 1, 0, 1)[..., None]
    colours = np.where(above < 0.5, BLURRED + (HALF - BLURRED) * above * 2, HALF + (SHARP - HALF) * (above * 2 - 1))
    pixels = np.where(np.isfinite(above), colours, 255)
    buffer = io.BytesIO()
    Image.fromarray(np.round(pixels).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _draw_regions(picture: Image.Image, chosen: RungRegions, *, tile_px: float) -> None:
    draw, side = ImageDraw.Draw(picture), chosen.rung.grid_side * tile_px
    for y, x in _apart(chosen):
        draw.rectangle([x * tile_px, y * tile_px, x * tile_px + side, y * tile_px + side], outline=REGION, width=3)


def _apart(chosen: RungRegions) -> list[tuple[int, int]]:
    """Return corners of regions that do not overlap, greedily by tissue, so that the picture stays readable."""
    kept: list[tuple[int, int]] = []
    side = chosen.rung.grid_side
    for row in np.argsort(-chosen.tissue, kind="stable").tolist():
        y, x = int(chosen.y[row]), int(chosen.x[row])
        if all(abs(y - b) >= side or abs(x - a) >= side for b, a in kept):
            kept.append((y, x))
    return kept


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels on both sides of a mask's edge: a line two pixels wide."""
    edge = np.zeros_like(mask)
    for one, other in (np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:]):
        differs = mask[one] != mask[other]
        edge[one] |= differs
        edge[other] |= differs
    return edge
