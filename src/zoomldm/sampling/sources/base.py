"""What conditions are taken from. A new source is a class and a YAML in conf/source; nothing here imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoomldm.errors import ConfigError
from zoomldm.ladder import Rung

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from zoomldm.data.batch import Batch
    from zoomldm.data.manifest import Manifest
    from zoomldm.sampling.generator import PatchGenerator


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A slide made small, and where its pixels lie.

    Attributes:
        image: uint8 (h, w, 3).
        left_px0, top_px0: its corner, in level-0 pixels.
        pitch_px0: level-0 pixels a pixel.
    """

    image: np.ndarray
    left_px0: float
    top_px0: float
    pitch_px0: float

    def to_px0(self, x: float, y: float) -> tuple[int, int]:
        """Return the level-0 pixel in the middle of a pixel of the overview."""
        return round(self.left_px0 + (x + 0.5) * self.pitch_px0), round(self.top_px0 + (y + 0.5) * self.pitch_px0)


@dataclass(frozen=True, kw_only=True)
class AreaLevel:
    """What patches side by side show at one magnification.

    Attributes:
        pixels: uint8 (h, w, 3).
        conditions: of its patches, row by row; None where there is nothing finer to embed.
    """

    rung: Rung
    pixels: np.ndarray
    conditions: Batch | None


class Source(ABC):
    """Conditions of each magnification, in a fixed order.

    Made with its YAML's arguments and, by name: ``manifest`` (the data set), ``encoder`` (the option that made its
    grids), ``readers`` (options that open slides), ``seed``, ``allow`` (packages that the command line allows). One
    that takes ``manifest`` without a default needs a data set.

    Attributes:
        origin: what the conditions are taken from, in the plural, for messages.
        needs_edm: they are drawn by the embedding diffusion model.
        needs_shards: they are read out of the shards of a data set.
        is_chosen: the user named each of them; patches are shared out over them.
    """

    origin: str = "conditions"
    needs_edm: bool = False
    needs_shards: bool = False
    is_chosen: bool = False

    def __init__(self, *, name: str) -> None:
        self.name = name

    @property
    def label(self) -> str:
        """What its conditions are called in folders: others of the same seed have another name."""
        return self.name

    def why_not(self, rung: Rung) -> str | None:
        """Say why there is no condition at a magnification, and what to do; None where there is one."""
        return None

    @abstractmethod
    def count(self, rung: Rung) -> int | None:
        """Return how many conditions a magnification has; None for any number."""

    @abstractmethod
    def read(self, rung: Rung, start: int, stop: int, *, with_grids: bool) -> Batch | None:
        """Fetch conditions ``start`` up to ``stop``; None where there is nothing to fetch.

        Args:
            with_grids: the model looks at grids, and not at the magnification alone.
        """

    def tokens(self, generator: PatchGenerator, rung: Rung, numbers: Sequence[int], conditions: Batch | None) -> Tensor:
        """Return tokens `b n d` of what ``read`` fetched.

        Args:
            numbers: sample numbers of the conditions, for those that draw random numbers.
        """
        if conditions is None:
            raise TypeError(f"{type(self).__name__}: conditions must be read before there are tokens of them")
        return generator.tokens(conditions)

    def facts(self, generator: PatchGenerator) -> dict[str, Any]:
        """Return what its conditions have in common, as JSON values.

        Raises:
            UserError: the generator cannot make them.
        """
        return generator.edm_facts() if self.needs_edm else {}

    def references(self, rung: Rung, num: int) -> np.ndarray | None:
        """Return the real patches uint8 (num, p, p, 3) whose conditions come first, where there are such patches."""
        return None

    def scene(self, coarsest: Rung) -> Source:
        """Return the same places at a magnification and at all higher ones.

        Raises:
            ConfigError: these conditions have no place.
        """
        raise ConfigError(
            f"scene=true: conditions of source={self.name} have no place that other magnifications could show; choose "
            "source=oracle, image or slide"
        )

    def at(self, x_px0: float, y_px0: float) -> Source:
        """Return this source at another place: a level-0 pixel.

        Raises:
            ConfigError: these conditions have no place.
        """
        raise ConfigError(f"source={self.name}: its conditions have no place; choose source=image or slide")

    def overview(self, side_px: int) -> Overview:
        """Return a picture of all its places, about ``side_px`` on its longer side.

        Raises:
            ConfigError: these conditions have no place.
        """
        raise ConfigError(f"source={self.name}: its conditions have no place to show; choose source=image or slide")

    def own_rung(self) -> Rung | None:
        """Return the magnification that it is of and cannot leave; None where it has all."""
        return None

    def extent(self, rung: Rung) -> tuple[int, int]:
        """Return how many whole patches of a magnification it shows, (rows, columns), where nobody says how many."""
        return 1, 1

    def area(self, rungs: Sequence[Rung], rows: int, columns: int) -> list[AreaLevel]:
        """Return ``rows`` x ``columns`` patches of the first magnification, and the same place at the finer ones.

        Raises:
            UserError: these conditions have no place, or there is less than that.
        """
        raise ConfigError(f"source={self.name}: its conditions have no place; choose source=generated, image or slide")

    @classmethod
    def files(cls, manifest: Manifest) -> Mapping[str, str]:
        """Return the files of a data set that conditions may be taken from, by name: those that are at hand."""
        return {}
