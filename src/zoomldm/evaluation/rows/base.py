"""The one interface of an evaluation's rows."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from zoomldm.evaluation.bench import Bench, Described
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.result import RowInfo
from zoomldm.evaluation.rung_data import RungData


class Row(ABC):
    """A set of patches that is compared with real training patches at each magnification.

    A subclass gives ``images``, or ``described`` where the vectors are there already.

    Attributes:
        title, meaning, colour, paired_title, is_synthetic, is_paired, is_control: as in ``result.RowInfo``.
        needs_edm: an embedding diffusion model must be loaded for it.
        shows_examples: its first patches are kept for pictures.
        expectations: claims that this row is there for.
    """

    title: ClassVar[str]
    meaning: ClassVar[str] = ""
    colour: ClassVar[str] = "#4a4a4a"
    paired_title: ClassVar[str] = ""
    is_synthetic: ClassVar[bool] = False
    is_paired: ClassVar[bool] = False
    is_control: ClassVar[bool] = False
    needs_edm: ClassVar[bool] = False
    shows_examples: ClassVar[bool] = True
    expectations: ClassVar[tuple[Expectation, ...]] = ()

    def __init__(self, *, name: str) -> None:
        self.name = name

    def why_not(self, bench: Bench) -> str | None:
        """Return why this row cannot be had with the models that are there; None where it can."""
        return None

    def depends_on(self, bench: Bench) -> dict[str, Any]:
        """Return, as JSON values, what this row's patches depend on beside data, ZoomLDM and autoencoder."""
        return {name: value for name, value in vars(self).items() if name != "name"}

    def images(self, data: RungData) -> Iterator[np.ndarray]:
        """Yield patches uint8 (b, p, p, 3) in the order of the conditioning half (``data.half``).

        A paired row that has more of them than that half goes through it again and again.
        """
        raise NotImplementedError(f"{type(self).__name__} must give images or described")

    def described(self, data: RungData) -> Described | None:
        """Return the row's vectors, in the order of the conditioning half; None where this magnification has none."""
        kept_as = self.name if self.shows_examples else None
        found = data.describe(self.images(data), with_embeddings=self.is_paired, kept_as=kept_as)
        return replace(found, patients=data.half.repeated(len(found)).patients) if self.is_paired else found

    def pairs(self, data: RungData) -> Described | None:
        """Return each patch's own real patch; where there are fewer than patches, they begin again."""
        return data.half if self.is_paired else None

    def info(self) -> RowInfo:
        """Return what the report says of this row."""
        return RowInfo(
            name=self.name,
            title=self.title,
            meaning=self.meaning,
            colour=self.colour,
            paired_title=self.paired_title,
            is_synthetic=self.is_synthetic,
            is_paired=self.is_paired,
            is_control=self.is_control,
        )
