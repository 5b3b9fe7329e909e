"""A picture that is coarser than what is embedded: nothing but pixels of one magnification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from zoomldm.errors import ConfigError, DataError
from zoomldm.ladder import Ladder, Rung
from zoomldm.sampling.sources.base import AreaLevel

TOLERANCE = 0.03
"""Part by which a picture's scale may differ from its magnification's."""


class CoarsePicture:
    """A picture of 8-bit RGB at a low magnification.

    Args:
        mpp: its scale, coarser than the ladder's base.
    """

    def __init__(self, path: Path, mpp: float, ladder: Ladder) -> None:
        self.path, self.mpp, self.ladder = path, mpp, ladder
        with Image.open(path) as image:
            self.width_px, self.height_px = image.size

    def why_not(self) -> str:
        """Say why it has no conditions."""
        base = self.ladder[0]
        return (
            f"{self.path}: a picture of {self.mpp:g} mpp is too coarse: its tiles are embedded at {base.mpp:g} mpp "
            f"({base.label}), whatever the magnification of the patches; give a finer one (src/slide.py zooms into it)"
        )

    def rung(self) -> Rung:
        """Return the magnification that it is of.

        Raises:
            ConfigError: it lies between two.
        """
        near = min(self.ladder.rungs, key=lambda rung: abs(np.log(rung.mpp / self.mpp)))
        if abs(near.mpp / self.mpp - 1) > TOLERANCE:
            raise ConfigError(
                f"{self.path}: {self.mpp:g} mpp, and {near.label} has {near.mpp:g}; resize it to "
                f"{self.mpp / near.mpp:.0%} and give source.magnification={near.magnification:g}"
            )
        return near

    def extent(self) -> tuple[int, int]:
        """Return how many whole patches it shows, rows and columns.

        Raises:
            DataError: none.
        """
        side = self.ladder.patch_px
        if min(self.width_px, self.height_px) < side:
            raise DataError(
                f"{self.path}: {self.width_px} x {self.height_px} px, and a patch has {side} x {side}; give more of it"
            )
        return self.height_px // side, self.width_px // side

    def area(self, rungs: Sequence[Rung], rows: int, columns: int) -> list[AreaLevel]:
        """Return the patches in its middle.

        Raises:
            UserError: it is of another magnification, or smaller; finer ones were asked for.
        """
        own, side = self.rung(), self.ladder.patch_px
        if rungs[0] != own:
            raise ConfigError(f"root={rungs[0].magnification:g}: {self.path} is of {own.label}; leave out root=")
        if len(rungs) > 1:
            raise ConfigError(
                f"{self.path}: shows {own.label} alone; what shall stay at {rungs[-1].label} is not there"
            )
        most = self.extent()
        if rows > most[0] or columns > most[1]:
            raise ConfigError(
                f"roots={rows}x{columns}: {self.path} has {most[0]}x{most[1]} patches of {side} px; leave out roots="
            )
        top, left = (self.height_px - rows * side) // 2, (self.width_px - columns * side) // 2
        with Image.open(self.path) as image:
            pixels = np.asarray(image.crop((left, top, left + columns * side, top + rows * side)))
        return [AreaLevel(rung=own, pixels=pixels, conditions=None)]
