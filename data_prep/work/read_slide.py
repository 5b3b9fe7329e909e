"""One read of a slide: patches of the regions that were laid out, and rows of their tiles.

Preparation reads whole slides so, and sample.py single places.
"""

from dataclasses import dataclass

import numpy as np

from data_prep.execution.encoding.queue import TileQueue
from data_prep.fold.area import Area
from data_prep.fold.quadtree import Emit, Fold, FoldResult, union_of
from data_prep.fold.regions import RungRegions
from data_prep.settings import SlideSettings
from data_prep.slides.slide import Slide
from data_prep.slides.table import SlideSpec
from data_prep.tissue.focus import FocusMap
from data_prep.tissue.mask import TissueMask, find_tissue
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError, UserError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is to be read of a slide: its mask, its regions by rung, and the tiles to encode (tiles_y, tiles_x).

    Attributes:
        area: where the slide is cut if it serves both splits.
    """

    mask: TissueMask
    regions: list[RungRegions]
    encode: np.ndarray
    area: Area | None = None


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The tiles' rows (1 + n, D), the map of row numbers (tiles_y, tiles_x), what failed, and the encoder's seconds."""

    rows: np.ndarray
    cells: np.ndarray
    fold: FoldResult
    elapsed_s: float


def open_slide(spec: SlideSpec, settings: SlideSettings) -> Slide:
    """Open the slide; whatever its file makes a library raise is the file's fault, not ours."""
    try:
        return Slide(spec, settings.ladder.base_mpp, settings.readers, use_icc=settings.icc)
    except (DataError, OSError):
        raise
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error.__cause__, ValueError):
            raise  # no such reader
        reason = f"cannot be opened ({type(error).__name__}: {error}); check the file or copy it again"
        raise DataError(f"{spec.path}: {reason}") from error


def find_mask(slide: Slide, settings: SlideSettings) -> TissueMask:
    """Find the slide's tissue, and tell the slide its glass."""
    mask = find_tissue(slide, settings.ladder.patch_px, settings.ladder.base_mpp, settings.tissue)
    slide.glass = mask.glass
    return mask


def tiles_to_encode(mask: TissueMask, regions: list[RungRegions], settings: SlideSettings) -> np.ndarray:
    """Return the tiles of some regions that are not glass, (tiles_y, tiles_x) bool."""
    encode = union_of(regions, mask.fraction.shape)
    if not settings.encode_background:
        encode &= mask.fraction >= settings.tissue.min_tile
    return encode


def read_slide(
    slide: Slide,
    settings: SlideSettings,
    layout: Layout,
    encoder: Encoder,
    emit: Emit,
    *,
    focus: FocusMap | None = None,
) -> Encoded:
    """Read the slide once, giving its patches to ``emit`` and encoding its tiles; row 0 is glass.

    focus: where each tile's is noted, before a region that holds it is emitted.
    """
    p, shape = settings.ladder.patch_px, layout.encode.shape
    queue = TileQueue(encoder)
    queue.add(np.broadcast_to(layout.mask.glass, (1, p, p, 3)))
    cells = np.zeros(shape, np.int32)
    num_rows = 1

    def on_tiles(corners: np.ndarray, tiles: np.ndarray) -> None:
        nonlocal num_rows
        cells[corners[:, 0], corners[:, 1]] = np.arange(num_rows, num_rows + len(tiles))
        num_rows += len(tiles)
        if focus is not None:
            focus.measure(corners, tiles)
        queue.add(tiles)

    fold = Fold(slide.read_boxes, settings.ladder, shape, layout.regions, layout.encode).run(
        emit, on_tiles, layout.mask.glass
    )
    rows = queue.finish()
    if not np.isfinite(rows).all():
        said = "gave numbers that are not finite, or beyond float16; check its weights"
        raise DataError(f"{slide.path}: encoder {encoder.name} {said}")
    return Encoded(rows=rows, cells=cells, fold=fold, elapsed_s=queue.elapsed_s)
