"""Patches as tar shards that webdataset reads: a synthetic data set to train on.

A member of a tar is KEY.png (the patch), KEY.json (its facts, with ``labels``) or KEY.tokens.npy (its condition,
float16 (tokens, width)). Beside a tar lies its index, by which ``data.shards.ColumnReader`` reads any sample.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.data.schema import decode_image, encode_image, encode_npy
from zoomldm.data.shards import ColumnReader, index_path, write_column
from zoomldm.sampling.outputs.base import Made, Output

FIELDS = ("json", "png", "tokens.npy")
PARTS = ".parts"
"""Folder of the batches, until all are there."""

Sample = tuple[str, dict[str, bytes]]


class ShardOutput(Output):
    """00000.tar and so on, of ``shard_samples`` patches each.

    Args:
        labels: given to every patch, beside those that the patch of its condition has.
    """

    def __init__(self, *, name: str, shard_samples: int, labels: Mapping[str, Any] | None) -> None:
        super().__init__(name=name)
        if shard_samples < 1:
            raise ValueError(f"shard_samples={shard_samples}: expected 1 or more")
        self.shard_samples, self.labels = shard_samples, dict(labels or {})

    def begin(self, folder: Path) -> None:
        shutil.rmtree(folder / PARTS, ignore_errors=True)

    def keep(self, folder: Path, made: Made) -> None:
        write_column(folder / PARTS / f"{made.places.start:09d}.tar", self._samples(made))

    def finish(self, folder: Path, num: int) -> None:
        written = []
        samples = _read_all(sorted((folder / PARTS).glob("*.tar")))
        for nth, start in enumerate(range(0, num, self.shard_samples)):
            written.append(folder / f"{nth:05d}.tar")
            count = min(self.shard_samples, num - start)
            write_column(written[-1], (next(samples) for _ in range(count)))
        for tar in set(folder.glob("*.tar")) - set(written):  # of a longer series before
            tar.unlink()
            index_path(tar).unlink(missing_ok=True)
        shutil.rmtree(folder / PARTS)

    def images(self, folder: Path, num: int) -> np.ndarray:
        samples = _read_all(sorted(folder.glob("*.tar")))
        return np.stack([decode_image(fields["png"]) for _, (_, fields) in zip(range(num), samples)])

    def _samples(self, made: Made) -> Iterator[Sample]:
        for image, tokens, facts in zip(made.images, made.tokens, made.facts):
            described = facts | {"labels": facts["labels"] | self.labels}
            yield (
                facts["key"],
                {
                    "json": json.dumps(described).encode(),
                    "png": encode_image(image),
                    "tokens.npy": encode_npy(tokens),
                },
            )


def _read_all(tars: list[Path]) -> Iterator[Sample]:
    for tar in tars:
        reader = ColumnReader(tar, FIELDS)
        for position in range(len(reader)):
            yield reader.key(position), reader[position]
        reader.close()
