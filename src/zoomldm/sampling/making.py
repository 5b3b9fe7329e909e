"""Patches of a source's conditions, and what each was made of: what sample.py writes and the page shows.

Legend: b batch, p patch side (px), n tokens, d token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import zoomldm
from zoomldm.data.batch import Batch
from zoomldm.data.schema import make_key
from zoomldm.ladder import Rung
from zoomldm.sampling.arrangement import Arrangement, Blend
from zoomldm.sampling.generator import PatchGenerator, sample_number
from zoomldm.sampling.outputs.base import Made
from zoomldm.sampling.sources.base import Source


@dataclass(frozen=True, kw_only=True)
class Making:
    """What patches are made by, and of what.

    Attributes:
        facts: of all patches alike, as JSON values: what the model is and how it is sampled.
    """

    generator: PatchGenerator
    source: Source
    arrangement: Arrangement
    facts: Mapping[str, Any]

    def read(self, rung: Rung, places: range) -> Batch | None:
        """Fetch the conditions of some patches."""
        wanted = self.arrangement.conditions(places)
        return self.source.read(rung, wanted.start, wanted.stop, with_grids=self.generator.uses_grid)

    def make(self, rung: Rung, places: range, read: Batch | None) -> Made:
        """Make the patches whose conditions ``read`` fetched."""
        wanted = self.arrangement.conditions(places)
        of_conditions = self.source.tokens(self.generator, rung, [sample_number(rung, i) for i in wanted], read)
        tokens = self.arrangement.tokens(of_conditions, places)
        numbers = [sample_number(rung, self.arrangement.noise(place)) for place in places]
        return Made(
            places=places,
            images=self.generator.from_tokens(tokens, numbers, rung.index),
            tokens=tokens.to(torch.float16).cpu().numpy(),
            facts=[self._facts(rung, place, wanted.start, read) for place in places],
        )

    def references(self, rung: Rung, places: range) -> np.ndarray | None:
        """Return the real patch beside each synthetic one; none where a patch has parts of two conditions."""
        blends = [self.arrangement.blend(place) for place in places]
        if any(blend.part for blend in blends):
            return None
        found = self.source.references(rung, blends[-1].first + 1)
        return None if found is None else found[[blend.first for blend in blends]]

    def _facts(self, rung: Rung, place: int, first: int, read: Batch | None) -> dict[str, Any]:
        """Return how a patch was made; of its nearer condition the labels, which are the patch's."""
        blend = self.arrangement.blend(place)
        nearer = blend.first if blend.part < 0.5 else blend.second
        return {
            **self.facts,
            **self.generator.sampling.facts(rung.index),
            "key": make_key(f"{self.source.name}-seed{self.generator.seed}", rung.grid_side, place, 0),
            "magnification": rung.magnification,
            "mpp": rung.mpp,
            "number": place,
            "noise": self.arrangement.noise(place),
            "conditions": [_condition(i, part, read, first) for i, part in _parts(blend)],
            "labels": dict(read.meta[nearer - first].labels) if read is not None and read.meta else {},
        }


def facts_of(generator: PatchGenerator, source: Source, *, model: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return what all patches of a source have in common, as JSON values.

    Args:
        weights: SHA-256 of each part of the model.
    """
    return {
        "software": f"zoomldm {zoomldm.__version__}",
        "model": model,
        "weights": dict(weights),
        "source": source.name,
        "seed": generator.seed,
        **generator.facts(),
        **source.facts(generator),
    }


def _parts(blend: Blend) -> list[tuple[int, float]]:
    """Return the conditions of a blend with their parts."""
    both = [(blend.first, 1 - blend.part), (blend.second, blend.part)]
    return [(number, round(part, 6)) for number, part in both if part]


def _condition(number: int, part: float, read: Batch | None, first: int) -> dict[str, Any]:
    """Return which condition it is, its part, and where the patch that has it lies, if one has."""
    found: dict[str, Any] = {"number": number, "part": part}
    if read is not None and read.meta:
        meta = read.meta[number - first]
        places = ("key", "slide", "patient", "split", "x_px0", "y_px0", "region_px0")
        found |= {name: getattr(meta, name) for name in places}
    return found
