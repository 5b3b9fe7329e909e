"""A slide's tissue mask, on a thumbnail whose pixels tile the 20x tiles: a tile's tissue fraction is a plain mean.

Legend: h w tiles, c mask pixels along a tile.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import reduce

from data_prep.slides.slide import Slide
from data_prep.tissue.contours import geojson_of
from data_prep.tissue.density import strips_of, white_of
from data_prep.tissue.folds import fold_share
from data_prep.tissue.geojson import drawn_path, polygons_mask, read_polygons
from data_prep.tissue.segmenter import Segmenter
from zoomldm.config import Option

BRIGHT = 180  # grey level from which a pixel that is not tissue can be glass
MOST_GLASS_PX = 200_000
FIRST_SEGMENTER = "data_prep.tissue.chroma.ChromaSegmenter"
"""The one that format version 1 knew and does not name."""


@dataclass(frozen=True, kw_only=True)
class TissueSettings:
    """How a mask is made and used.

    Attributes:
        segmenter: the option of conf/tissue.
        cells_per_tile: mask pixels along a 20x tile; 4 at 32 px tiles and 16 at 256 px are 4 and 8 um a mask pixel.
        min_tile: tissue fraction from which a 20x tile is encoded (others are glass in every grid).
        min_focus: least focus of a 20x tile (1/um, ``tissue.focus``) that counts as tissue of a region; None: all do.
        regions: folder of GeoJSON files by slide name; where a slide has one, only its polygons count.
        regions_replace: such polygons are the tissue, whatever the segmenter finds: contours that a person has edited.
    """

    segmenter: Option
    cells_per_tile: int
    min_tile: float
    min_focus: float | None
    regions: str | None
    regions_replace: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what decides the mask, as plain values."""
        target = self.segmenter.section["_target_"]
        named = {} if target == FIRST_SEGMENTER else {"segmenter": target}
        own = {"cells_per_tile": self.cells_per_tile, "min_tile": self.min_tile, "regions": self.regions}
        later = {"min_focus": self.min_focus, "regions_replace": self.regions_replace or None}
        return (
            self.segmenter.arguments | named | own | {key: value for key, value in later.items() if value is not None}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], allow: tuple[str, ...] = ()) -> "TissueSettings":
        """Return the settings that ``to_dict`` gave.

        Args:
            allow: packages besides our own whose segmenter may be named.
        """
        own = {name: values[name] for name in ("cells_per_tile", "min_tile", "regions")}
        own |= {"min_focus": values.get("min_focus"), "regions_replace": values.get("regions_replace", False)}
        target = values.get("segmenter", FIRST_SEGMENTER)
        arguments = {name: value for name, value in values.items() if name not in (*own, "segmenter")}
        return cls(segmenter=Option("tissue", {"_target_": target, **arguments}, allow), **own)


@dataclass(frozen=True, kw_only=True)
class TissueMask:
    """What a slide's thumbnail shows.

    Attributes:
        tissue: (h * c, w * c) bool, where it is.
        fraction: (h, w) float32, tissue fraction of every 20x tile.
        thumbnail: (h * c, w * c, 3) uint8.
        glass: (3,) uint8, the median colour of the background.
        pen: fraction of the thumbnail that is pen.
        folds: fraction of the tissue that may be folded (``tissue.folds``).
        pitch_px0: level-0 pixels along a mask pixel.
        origin_px0: x and y of the mask's corner in level 0.
    """

    tissue: np.ndarray
    fraction: np.ndarray
    thumbnail: np.ndarray
    glass: np.ndarray
    pen: float
    folds: float
    pitch_px0: float
    origin_px0: tuple[int, int]

    def contours(self) -> str:
        """Return the tissue as GeoJSON for QuPath, in level-0 pixels."""
        return geojson_of(self.tissue, pitch_px0=self.pitch_px0, origin_px0=self.origin_px0)


_segmenters: dict[str, Segmenter] = {}


def segmenter_of(option: Option) -> Segmenter:
    """Return a segmenter, made once a process: it may hold a network."""
    key = json.dumps(option.section, sort_keys=True, default=str)
    if key not in _segmenters:
        _segmenters[key] = option.make(Segmenter)
    return _segmenters[key]


def find_tissue(slide: Slide, patch_px: int, base_mpp: float, settings: TissueSettings) -> TissueMask:
    """Make the mask of a slide.

    Raises:
        UnreadableError: the level for the thumbnail cannot be decoded.
        DataError: a GeoJSON that is none.
    """
    c = min(settings.cells_per_tile, patch_px)
    pitch_px = patch_px / c
    tiles_x, tiles_y = -(-slide.width_px // patch_px), -(-slide.height_px // patch_px)
    thumbnail = slide.thumbnail(pitch_px, (tiles_x * c, tiles_y * c))
    tissue, pen = segmenter_of(settings.segmenter).segment(thumbnail, pitch_px * base_mpp)
    inside = np.zeros(tissue.shape, bool)
    inside[: int(slide.height_px / pitch_px), : int(slide.width_px / pitch_px)] = True
    pitch_px0, origin_px0 = pitch_px * slide.pitch_px0, slide.to_px0(0, 0)
    path = drawn_path(settings.regions or "", slide.spec.name)
    if settings.regions and os.path.lexists(path):
        drawn = polygons_mask(read_polygons(path), lambda px0: (px0 - origin_px0) / pitch_px0, tissue.shape)
        tissue = drawn if settings.regions_replace else tissue & drawn
    tissue &= inside
    return TissueMask(
        tissue=tissue,
        fraction=reduce(tissue, "(h c1) (w c2) -> h w", np.count_nonzero, c1=c, c2=c).astype(np.float32) / c**2,
        thumbnail=thumbnail,
        glass=glass_of(thumbnail, inside & ~tissue & ~pen),
        pen=float(pen.mean()),
        folds=fold_share(thumbnail, tissue, pitch_px * base_mpp),
        pitch_px0=pitch_px0,
        origin_px0=origin_px0,
    )


def glass_of(thumbnail: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the median colour of the bright background, (3,) uint8.

    Args:
        thumbnail: (h, w, 3) uint8.
        background: (h, w) bool, neither tissue nor pen.
    """
    step, picked, num_seen = max(1, int(np.count_nonzero(background)) // MOST_GLASS_PX), [], 0
    for rows in strips_of(thumbnail):
        pixels = thumbnail[rows][background[rows]]
        bright = pixels[pixels.min(1) >= BRIGHT]
        picked.append(bright[-num_seen % step :: step])
        num_seen += len(bright)
    glass = np.median(np.concatenate(picked), axis=0) if num_seen else white_of(thumbnail)
    return np.round(glass).astype(np.uint8)
