"""A slide's encoded patches, one after the other in one file."""

from pathlib import Path

import numpy as np

from data_prep.fold.regions import RungRegions
from data_prep.settings import SlideSettings
from data_prep.slides.slide import Slide
from data_prep.work.samples import RungSamples
from zoomldm.data.schema import encode_image, is_reference, make_key


class ImageWriter:
    """Appends encoded patches to a file and keeps where each lies.

    Args:
        regions: of every rung; a patch belongs to the region of its number there.
    """

    def __init__(self, path: Path, slide: Slide, settings: SlideSettings, regions: list[RungRegions]) -> None:
        self.path, self.slide, self.settings, self.regions = path, slide, settings, regions
        self._spans = [np.full((len(chosen), 4), -1, np.int64) for chosen in regions]
        self._offset = 0

    def __enter__(self) -> "ImageWriter":
        self._stream = open(self.path, "wb", buffering=1 << 20)
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def emit(self, rung: int, number: int, pixels: np.ndarray) -> None:
        """Append the patch of a region, and its lossless copy where it is one of those that get one."""
        spans = self._spans[rung][number]
        spans[:2] = self._append(encode_image(pixels, self.settings.image_format))
        chosen = self.regions[rung].rung
        fraction = self.settings.reference[chosen.label]
        if fraction and is_reference(
            make_key(self.slide.spec.name, chosen.grid_side, *self._corner_px0(rung, number)), fraction
        ):
            spans[2:] = self._append(encode_image(pixels, "png"))

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
