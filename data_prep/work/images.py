"""A slide's encoded patches, one after the other in one file."""

from pathlib import Path

import numpy as np

from data_prep.settings import SlideSettings
from data_prep.slides.slide import Slide
from data_prep.tissue.focus import FocusMap
from data_prep.work.read_slide import Layout
from data_prep.work.samples import RungSamples
from zoomldm.data.schema import encode_image, is_reference, make_key


class ImageWriter:
    """Appends encoded patches to a file and keeps where each lies; those that are blurred it leaves out.

    Args:
        layout: its regions, of every rung; a patch belongs to the region of its number there.
        focus: of the tiles that have been read.

    Attributes:
        num_blurred: regions that were left out.
    """

    def __init__(self, path: Path, slide: Slide, settings: SlideSettings, layout: Layout, focus: FocusMap) -> None:
        self.path, self.slide, self.settings, self.focus = path, slide, settings, focus
        self.regions, self._fraction = layout.regions, layout.mask.fraction
        self._spans = [np.full((len(chosen), 4), -1, np.int64) for chosen in self.regions]
        self._offset = self.num_blurred = 0

    def __enter__(self) -> "ImageWriter":
        self._stream = open(self.path, "wb", buffering=1 << 20)
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def emit(self, rung: int, number: int, pixels: np.ndarray) -> None:
        """Append the patch of a region, and its lossless copy where it is one of those that get one."""
        if self._is_blurred(rung, number):
            self.num_blurred += 1
            return
        spans = self._spans[rung][number]
        spans[:2] = self._append(encode_image(pixels, self.settings.image_format))
        chosen = self.regions[rung].rung
        fraction = self.settings.reference[chosen.label]
        if fraction and is_reference(
            make_key(self.slide.spec.name, chosen.grid_side, *self._corner_px0(rung, number)), fraction
        ):
            spans[2:] = self._append(encode_image(pixels, "png"))

    def _is_blurred(self, rung: int, number: int) -> bool:
        """Say whether a region has too little tissue without the tiles below ``min_focus``."""
        least, chosen = self.settings.tissue.min_focus, self.regions[rung]
        if least is None:
            return False
        y, x, side = int(chosen.y[number]), int(chosen.x[number]), chosen.rung.grid_side
        sharp = self.focus.sharp_part(self._fraction, y, x, side, least=least)
        return sharp < max(self.settings.regions.min_tissue[chosen.rung.label], 1e-9)

    def samples(self, rung: int) -> RungSamples:
        """Return the samples of a rung: those of its regions that were emitted."""
        chosen, spans = self.regions[rung], self._spans[rung]
        kept = np.flatnonzero(spans[:, 0] >= 0)
        return RungSamples(
            corner=np.stack([chosen.y[kept], chosen.x[kept]], axis=1).astype(np.int32),
            corner_px0=np.array([self._corner_px0(rung, number) for number in kept], np.int64).reshape(-1, 2),
            tissue=chosen.tissue[kept].astype(np.float64),
            spans=spans[kept],
        )

    def _append(self, content: bytes) -> tuple[int, int]:
        self._stream.write(content)
        self._offset += len(content)
        return self._offset - len(content), len(content)

    def _corner_px0(self, rung: int, number: int) -> tuple[int, int]:
        chosen, p = self.regions[rung], self.settings.ladder.patch_px
        return self.slide.to_px0(int(chosen.x[number]) * p, int(chosen.y[number]) * p)
