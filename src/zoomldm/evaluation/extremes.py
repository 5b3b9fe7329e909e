"""The synthetic patches that are nearest to, and farthest from, their own reference: what an average hides."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from zoomldm.evaluation.bench import Described
from zoomldm.evaluation.result import MAIN_ROW
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rung_data import RungData
from zoomldm.sampling.generator import images_of

NEAREST, FARTHEST, REFERENCE = "nearest", "farthest", " reference"
NUM = 4


def keep_extremes(row: Row, data: RungData, described: Described, pairs: Described | None) -> None:
    """Keep the main row's nearest and farthest patches for pictures, with their references, as the judge sees them.

    Only where patches are on disk: they are not made again for a picture.
    """
    if row.name != MAIN_ROW or pairs is None or data.bench.folder is None:
        return
    name = data.bench.descriptors[0].distance_name
    errors = np.square(described.vectors[name] - pairs.repeated(len(described)).vectors[name]).sum(1)
    order, num = np.argsort(errors, kind="stable"), min(NUM, len(errors) // 2)
    chosen = np.concatenate([order[:num], order[::-1][:num]])
    real = (images_of(batch) for batch in data.real_batches(columns=("image",)))
    references = _picked(real, chosen % data.drawn.num_conditions)
    synthetic = _picked(row.images(data), chosen)
    for kind, part in ((NEAREST, slice(0, num)), (FARTHEST, slice(num, None))):
        data.bench.examples.put(kind, data.rung.label, synthetic[part])
        data.bench.examples.put(kind + REFERENCE, data.rung.label, references[part])


def _picked(batches: Iterable[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Return the images at some places of a sequence of batches, in the order of the places."""
    found: dict[int, np.ndarray] = {}
    wanted, first = set(places.tolist()), 0
    for images in batches:
        found |= {place: images[place - first] for place in wanted if first <= place < first + len(images)}
        first += len(images)
    return np.stack([found[place] for place in places.tolist()])
