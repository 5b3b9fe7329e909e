"""The synthetic patches of an evaluation, made by one process or several before anything is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from lightning_fabric import Fabric

from zoomldm.data.batch import Batch
from zoomldm.evaluation.bench import Bench
from zoomldm.evaluation.protocols.base import Drawn
from zoomldm.evaluation.rows.synthetic import SyntheticRow
from zoomldm.evaluation.rung_data import RungData
from zoomldm.ladder import Rung
from zoomldm.sampling.production import Production


@dataclass(frozen=True)
class Chunk:
    """Which patches: chunk ``index`` of a row at a magnification."""

    rung: int
    row: str
    index: int


def synthesise(
    bench: Bench, rows: Sequence[SyntheticRow], drawn: Mapping[Rung, Drawn], fabric: Fabric
) -> dict[str, float]:
    """Put all chunks of these rows on disk that are not there; return the seconds that this process worked on each.

    Args:
        drawn: how many patches a row has at each magnification, and of which conditions.
    """
    seconds = dict.fromkeys((row.name for row in rows), 0.0)
    data = {rung.index: RungData(bench, rung, one, wants_embeddings=False) for rung, one in drawn.items()}
    named = {row.name: row for row in rows}
    stores = {(rung, row.name): row.chunks(data[rung]) for rung in data for row in rows}

    def size(chunk: Chunk) -> int:
        start, stop = data[chunk.rung].spans[chunk.index]
        return stop - start

    def read(chunk: Chunk) -> Batch | None:
        return named[chunk.row].read(data[chunk.rung], chunk.index)

    def make(chunk: Chunk, conditions: Batch | None) -> np.ndarray:
        began = time.monotonic()
        images = named[chunk.row].make(data[chunk.rung], chunk.index, conditions)
        seconds[chunk.row] += time.monotonic() - began
        return images

    def keep(chunk: Chunk, images: np.ndarray) -> None:
        stores[chunk.rung, chunk.row].write(chunk.index, images)

    @cache
    def passes_of(row: str, rung: int) -> int:
        return named[row].generator(data[rung]).passes(rung)

    makers: dict[tuple[str, str], tuple[int, str]] = {}
    for place, store in stores.items():
        makers.setdefault((store.name, store.identity), place)  # rows may share patches: the first of them makes those
    missing = [
        Chunk(rung, row, index)
        for rung, row in makers.values()
        for index in range(len(stores[rung, row].sizes))
        if not stores[rung, row].has(index)
    ]
    options = {"size": size, "read": read, "make": make, "keep": keep}
    Production(**options, passes=lambda chunk: passes_of(chunk.row, chunk.rung)).run(missing, fabric)
    return seconds
