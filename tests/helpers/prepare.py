"""Preparations of tiny slides, and what is asked of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.execution.executor import Executor
from data_prep.execution.serial import SerialExecutor
from data_prep.pipeline import run
from data_prep.preparation import Preparation
from data_prep.settings import PackSettings
from data_prep.slides.table import SlideSpec, find_slides
from tests.helpers.tiny_slides import SUFFIXES, tiny_settings
from zoomldm.data.manifest import Manifest, ShardInfo
from zoomldm.data.schema import SampleMeta
from zoomldm.data.shards import ShardReader
from zoomldm.encoder.base import Encoder
from zoomldm.files import sha256_of

PACK = {"name": "tiny", "split_mode": "patients", "test_fraction": 0.2, "shard_samples": 400, "seed": 0}
PACK |= {"min_samples": {"train": 1, "test": 0}, "max_test_per_slide": None}
PACKING = PACK.keys()


def tiny_preparation(folder: Path, root: Path, *, specs: list[SlideSpec] | None = None, **values) -> Preparation:
    """Return the preparation of a folder of tiny slides; ``values`` are of ``tiny_settings`` or ``PackSettings``."""
    told = PACK | {k: v for k, v in values.items() if k in PACKING}
    settings = tiny_settings(**{k: v for k, v in values.items() if k not in PACKING or k == "seed"})
    found, faults = (specs, []) if specs is not None else find_slides(str(folder), SUFFIXES, settings.mpp)
    return Preparation(
        root=Path(root), specs=found, faults=faults, slide_settings=settings, pack_settings=PackSettings(**told)
    )


def prepare_folder(
    folder: Path,
    root: Path,
    *,
    executor: Executor | None = None,
    part: tuple[int, int] | None = None,
    drop_images: bool = False,
    repack: bool = False,
    max_failed: float = 1.0,
    **values,
) -> Manifest | None:
    preparation = tiny_preparation(folder, root, **values)
    return run(
        preparation,
        executor or SerialExecutor(),
        part=part,
        drop_images=drop_images,
        repack=repack,
        max_failed=max_failed,
    )


def samples_of(
    manifest: Manifest, split: str | None = None
) -> Iterator[tuple[ShardInfo, SampleMeta, dict[str, dict[str, bytes]]]]:
    """Yield the shard, meta and columns' fields of every sample."""
    for shard in manifest.shards:
        if split in (None, shard.split):
            columns = ["image", "grid", "meta"]
            reader = ShardReader(manifest.root, shard.path, columns, image_format=manifest.image_format)
            for number in range(len(reader)):
                fields_of = reader.read(number)
                yield shard, SampleMeta.decode(fields_of["meta"]["json"]), fields_of


def hashes(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every tar."""
    return {str(p.relative_to(root)): sha256_of(p) for p in sorted((root / "shards").rglob("*.tar"))}


class MeanColour(Encoder):
    """A tile's mean colour: a network's stand-in, with batches of five."""

    name, dim, batch_size, weights_sha256 = "mean", 3, 5, "f00d"

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        assert len(tiles) == 5
        return tiles.mean((1, 2), dtype=np.float32)
