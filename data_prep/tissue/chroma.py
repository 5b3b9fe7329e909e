"""Tissue is where stain makes colour: the segmenter that needs no weights."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from data_prep.tissue.density import chroma_of, optical_density, strips_of, white_of
from data_prep.tissue.pen import ink_of, pen_mask
from data_prep.tissue.segmenter import Segmenter
from data_prep.tissue.specks import drop_specks
from zoomldm.errors import ConfigError

OTSU_PX = 1024  # about so many pixels a side decide the threshold


@dataclass(frozen=True, kw_only=True)
class ChromaSegmenter(Segmenter):
    """Take for tissue what has chroma in its optical density: the largest less the smallest channel.

    The threshold is the ceiling where the slide is stained, since Otsu's own lies in the middle of its tissue's colours
    and would lose the pale ones; it is the floor where Otsu's shows that the stain has faded, and not less, else an
    empty slide's noise would be tissue. Otsu chooses between both (docs/data.md has figures). Pen marks are left out.

    Attributes:
        chroma_floor, chroma_ceiling: bounds of Otsu's threshold.
        smooth_um: sigma of the blur before the threshold.
        min_object_um2: smaller pieces of tissue are dropped.
        max_hole_um2: smaller holes in tissue are filled.
        pen: leave pen marks out.
        pen_margin_um: how far around them.
    """

    chroma_floor: float
    chroma_ceiling: float
    smooth_um: float
    min_object_um2: float
    max_hole_um2: float
    pen: bool
    pen_margin_um: float

    def __post_init__(self) -> None:
        if self.chroma_floor > self.chroma_ceiling:
            raise ConfigError(
                f"tissue.chroma_floor={self.chroma_floor}: above chroma_ceiling={self.chroma_ceiling}; set both"
            )

    def segment(self, thumbnail: np.ndarray, um_per_px: float) -> tuple[np.ndarray, np.ndarray]:
        white, shape = white_of(thumbnail), thumbnail.shape[:2]
        chroma, ink = np.empty(shape, np.float32), np.zeros(shape, np.uint8)
        for rows in strips_of(thumbnail):
            density = optical_density(thumbnail[rows], white)
            chroma[rows] = chroma_of(density)
            if self.pen:
                ink[rows] = ink_of(density)
        margin_px = max(1, round(self.pen_margin_um / um_per_px))
        pen = pen_mask(ink, thumbnail, white, min_px=self.min_object_um2 / 4 / um_per_px**2, margin_px=margin_px)
        del ink
        chroma[pen] = 0
        ndimage.gaussian_filter(chroma, self.smooth_um / um_per_px, output=chroma)
        tissue = chroma > self.threshold(chroma)
        del chroma
        tissue = ~drop_specks(~tissue, self.max_hole_um2 / um_per_px**2)
        tissue = drop_specks(tissue, self.min_object_um2 / um_per_px**2)
        return tissue & ~pen, pen

    def threshold(self, chroma: np.ndarray) -> float:
        """Return Otsu's threshold of the chroma, (h, w), between floor and ceiling."""
        sample = chroma[:: max(1, chroma.shape[0] // OTSU_PX), :: max(1, chroma.shape[1] // OTSU_PX)]
        otsu = float(threshold_otsu(sample)) if np.ptp(sample) > 1e-6 else self.chroma_ceiling
        return float(np.clip(otsu, self.chroma_floor, self.chroma_ceiling))
