"""Conditions of places on a slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.places.place import Place
from data_prep.places.settings import spec_of
from data_prep.places.source import PlaceSource, Spot, check_number
from data_prep.work.store import SlideStore
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError
from zoomldm.ladder import Rung


class SlideSource(PlaceSource):
    """Conditions of the regions around some level-0 pixels of a slide, next to them on the grid of its tiles.

    Args:
        x, y: a pixel, or lists of several.
        mpp: micrometres a pixel of level 0, instead of the file's.
        min_tissue: least part of a region that is tissue; None: what the data set's regions have at least.

    Raises:
        ConfigError: no slide or place is given. DataError: the slide cannot be read.
    """

    origin = "places on the slide"

    def __init__(
        self,
        *,
        slide: str | None,
        x: float | list[float] | None,
        y: float | list[float] | None,
        mpp: float | None,
        min_tissue: float | None,
        **shared: Any,
    ) -> None:
        if not slide or x is None or y is None:
            raise ConfigError(
                "source=slide needs source.slide=FILE, and source.x= and source.y=, the level-0 pixel in the middle "
                "of a region"
            )
        xs, ys = (list(value) if isinstance(value, (list, tuple)) else [value] for value in (x, y))
        if len(xs) != len(ys):
            raise ConfigError(f"source.x={xs} source.y={ys}: {len(xs)} and {len(ys)} numbers; give a y for every x")
        for key, values in (("x", xs), ("y", ys), ("mpp", [mpp]), ("min_tissue", [min_tissue])):
            for value in values:
                check_number(key, value)
        super().__init__(**shared)
        path = Path(slide).expanduser()
        places = self.opened(spec_of(self.manifest, path, mpp=mpp))
        self.spots = [(places, *point) for point in zip(xs, ys, strict=True)]
        self.min_tissue = min_tissue

    @classmethod
    def files(cls, manifest: Manifest) -> dict[str, str]:
        stores = (SlideStore(Path(manifest.root or ""), one["slide"]) for one in manifest.slides)
        paths = [Path(state.path) for store in stores if (state := store.done()) is not None]
        return {path.name: str(path) for path in paths if path.is_file()}

    def place(self, spot: Spot, rung: Rung) -> Place:
        places, x, y = spot
        return places.around(rung, float(x or 0), float(y or 0))

    def refusal(self, spot: Spot, rung: Rung) -> str | None:
        places, x, y = spot
        named = f"source.x={x} source.y={y}"
        if not places.holds(float(x or 0), float(y or 0)):
            left, top, width, height = places.slide.bounds_px0
            return (
                f"{named}: lies off {places.spec.path.name}, which has x from {left} to {left + width - 1} and y from "
                f"{top} to {top + height - 1} (level-0 pixels)"
            )
        least = self.settings.regions.min_tissue[rung.label] if self.min_tissue is None else self.min_tissue
        tissue = self.place(spot, rung).tissue
        if tissue < max(least, 1e-9):
            return (
                f"{named}: {tissue:.0%} of the region of {rung.label} there is tissue, the rest glass; the data set's "
                f"regions have {least:.0%} or more. Choose another place or magnification, or source.min_tissue="
            )
        return None
