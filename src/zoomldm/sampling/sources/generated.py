"""Conditions out of nothing: the embedding diffusion model draws them, for novel patches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoomldm.ladder import Rung
from zoomldm.sampling.sources.base import Source

if TYPE_CHECKING:
    from torch import Tensor

    from zoomldm.data.batch import Batch
    from zoomldm.sampling.generator import PatchGenerator


class GeneratedSource(Source):
    """Conditions that the generator's embedding diffusion model draws.

    Args:
        label: that all of them shall have, of those that the model was told (docs/labels.md); None: any.
    """

    origin = "draws of the embedding diffusion model"
    needs_edm = True

    def __init__(self, *, name: str, label: Any) -> None:
        super().__init__(name=name)
        self.asked = label

    @property
    def label(self) -> str:
        return self.name if self.asked is None else f"{self.name}-{_as_word(self.asked)}"

    def count(self, rung: Rung) -> None:
        return None

    def read(self, rung: Rung, start: int, stop: int, *, with_grids: bool) -> None:
        return None

    def tokens(self, generator: PatchGenerator, rung: Rung, numbers: Sequence[int], conditions: Batch | None) -> Tensor:
        return generator.edm_tokens(rung.index, numbers, self.asked)

    def facts(self, generator: PatchGenerator) -> dict[str, Any]:
        if self.asked is None:
            return super().facts(generator)
        if generator.edm is not None:
            generator.edm.told(self.asked, 1)
        return super().facts(generator) | {"label": self.asked}


def _as_word(asked: Any) -> str:
    """Return a label as a part of a folder's name: others have another."""
    text = str(asked)
    word = re.sub(r"[^A-Za-z0-9_.]+", "_", text)[:40].strip("_.")
    return word if word == text else f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
