"""What places on slides and in pictures share as sources of conditions."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from einops import rearrange

from data_prep.places.place import Embedded, Place, SlidePlaces
from data_prep.places.settings import encoder_of, settings_of
from data_prep.slides.scale import ScaleError
from data_prep.slides.table import SlideSpec
from data_prep.work.job import settings_for
from zoomldm.config import Option
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import slide_key
from zoomldm.errors import ConfigError, DataError
from zoomldm.ladder import Rung
from zoomldm.sampling.sources.base import AreaLevel, Overview, Source

Spot = tuple[SlidePlaces, float | None, float | None]
"""An open slide or picture, and a pixel of its level 0: the middle of a region; None for its own middle."""


def check_number(key: str, value: object) -> None:
    """Refuse what is neither a number nor None.

    Raises:
        ConfigError: names the key.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ConfigError(f"source.{key}={value}: expected a number")


class PlaceSource(Source):
    """Conditions of regions that the user named: on slides, in pictures."""

    is_chosen = True
    encode_all = False

    def __init__(
        self,
        *,
        name: str,
        manifest: Manifest,
        encoder: Option,
        readers: Sequence[Option],
        allow: Sequence[str] = (),
    ) -> None:
        super().__init__(name=name)
        self.manifest = manifest
        self.settings = settings_of(manifest, encoder=encoder, readers=readers, allow=allow)
        self._encoder = encoder_of(manifest, self.settings.encoder)
        self.spots: list[Spot] = []
        self._embedded: dict[tuple[SlidePlaces, Place], Embedded] = {}

    def opened(self, spec: SlideSpec) -> SlidePlaces:
        """Open a slide or picture.

        Raises:
            DataError: cannot be read, or has no scale.
        """
        try:
            settings = settings_for(spec, self.settings)
            return SlidePlaces(spec, settings, self._encoder, self.manifest.encoder, encode_all=self.encode_all)
        except ScaleError as error:
            raise DataError(f"{spec.path}: {error.found}; give its scale with source.mpp=0.5") from error

    @property
    def label(self) -> str:
        places, x, y = self.spots[0]
        at = "" if x is None or y is None else f"-x{x:g}-y{y:g}"
        more = f"-and-{len(self.spots) - 1}-more" if len(self.spots) > 1 else ""
        return f"{self.name}-{slide_key(places.spec.name)}{at}{more}"

    @abstractmethod
    def place(self, spot: Spot, rung: Rung) -> Place:
        """Return the region of a magnification at a spot."""

    @abstractmethod
    def refusal(self, spot: Spot, rung: Rung) -> str | None:
        """Say why a spot has no condition at a magnification; None where it has one."""

    def why_not(self, rung: Rung) -> str | None:
        return next((reason for spot in self.spots if (reason := self.refusal(spot, rung))), None)

    def count(self, rung: Rung) -> int:
        return len(self.spots)

    def read(self, rung: Rung, start: int, stop: int, *, with_grids: bool) -> Batch:
        return _batch(rung, [self._at(spot, rung) for spot in self.spots[start:stop]])

    def references(self, rung: Rung, num: int) -> np.ndarray:
        return np.stack([self._at(spot, rung).patch for spot in self.spots[:num]])

    def scene(self, coarsest: Rung) -> Source:
        return self

    def area(self, rungs: Sequence[Rung], rows: int, columns: int) -> list[AreaLevel]:
        if len(self.spots) > 1:
            raise ConfigError(f"source={self.name}: {len(self.spots)} {self.origin}, and a slide is drawn of one")
        if reason := self.refusal(self.spots[0], rungs[0]):
            raise DataError(reason)
        places = self.spots[0][0]
        laid = places.side_by_side(self.place(self.spots[0], rungs[0]), rungs, rows, columns)
        found, levels = iter(places.embed([place for of_rung in laid for place in of_rung])), []
        for rung, of_rung in zip(rungs, laid, strict=True):
            own = [next(found) for _ in of_rung]
            down = rows * rungs[0].grid_side // rung.grid_side
            pixels = rearrange(np.stack([one.patch for one in own]), "(r c) y x d -> (r y) (c x) d", r=down)
            levels.append(AreaLevel(rung=rung, pixels=pixels, conditions=_batch(rung, own)))
        return levels

    def at(self, x_px0: float, y_px0: float) -> Self:
        moved = copy.copy(self)
        moved.spots = [(self.spots[0][0], x_px0, y_px0)]
        moved._embedded = {}
        return moved

    def overview(self, side_px: int) -> Overview:
        return self.spots[0][0].overview(side_px)

    def _at(self, spot: Spot, rung: Rung) -> Embedded:
        """Return what is at a spot, read once."""
        key = spot[0], self.place(spot, rung)
        if key not in self._embedded:
            (self._embedded[key],) = key[0].embed([key[1]])
        return self._embedded[key]


def _batch(rung: Rung, found: Sequence[Embedded]) -> Batch:
    index = torch.arange(len(found))
    grids = torch.from_numpy(np.stack([one.grid for one in found]))
    return Batch(
        sample_number=index,
        rung=torch.full_like(index, rung.index),
        keys=[one.meta.key for one in found],
        grids=[GridGroup(index, grids)],
        meta=[one.meta for one in found],
    )
