"""What a job of train.py trains on: samples, their order, and how often each magnification comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.job import option, plain
from zoomldm.data.manifest import Manifest

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from omegaconf import DictConfig

    from zoomldm.curriculum.base import Curriculum
    from zoomldm.data.batch import Batch
    from zoomldm.data.reader import SampleSource
    from zoomldm.training.job import TrainingData


def training_data(cfg: DictConfig, manifest: Manifest, columns: tuple[str, ...]) -> TrainingData:
    """Return what a job trains on and what it validates on."""
    from zoomldm.training.job import TrainingData

    source = _source(cfg, manifest, columns, "train")
    source.check_files()
    holds_out = any(manifest.count("test", m) for m in manifest.ladder.magnifications)
    return TrainingData(
        source=source,
        validation=_source(cfg, manifest, columns, "test") if holds_out else None,
        curriculum=curriculum_of(cfg, manifest, source.counts),
        seed=cfg.seed,
    )


def _source(cfg: DictConfig, manifest: Manifest, columns: tuple[str, ...], split: str) -> SampleSource:
    """Return the samples of a split, from wherever ``paths`` says; training ones are augmented as the job says."""
    from zoomldm.data.reader import SampleSource
    from zoomldm.data.remote import remote_shards

    remote = None
    if cfg.paths.remote:
        max_bytes = int(cfg.paths.remote_gb * 1e9)
        remote = remote_shards(manifest, cfg.paths.remote, cache=Path(cfg.paths.cache), max_bytes=max_bytes)
    augmented = plain(cfg.training.augment) if split == "train" else ()
    return SampleSource(manifest, split=split, columns=columns, augmented=augmented, remote=remote)


def first_batches(cfg: DictConfig, data: TrainingData, fabric: Fabric) -> Iterator[Batch]:
    """Read the first samples of the training sequence, the same in every process."""
    import numpy as np

    from zoomldm.data.order.sequence import GlobalSequence

    source, size = data.source, min(64, cfg.optim.max_micro_batch)
    sequence = GlobalSequence(
        seed=data.seed, curriculum=data.curriculum, counts=source.counts, global_batch=cfg.optim.batch_size
    )
    for first in range(0, cfg.train.statistics_samples, size):
        draws = sequence.draws(np.arange(first, first + size))
        yield source.read(draws.rung, draws.index, draws.sample_number).to(fabric.device)


def curriculum_of(cfg: DictConfig, manifest: Manifest, counts: Sequence[int] | None = None) -> Curriculum:
    """Build p(magnification | step); one-hot for ``training=single``.

    Args:
        counts: training samples of each rung, the manifest's where not given (exclude.txt may leave fewer).
    """
    from zoomldm.curriculum.single import Single

    if counts is None:
        counts = [manifest.count("train", m) for m in manifest.ladder.magnifications]
    if cfg.training.name == "single":
        return Single(counts, ladder=manifest.ladder, magnification=cfg.training.magnification)
    return unified_curriculum(cfg, manifest, counts)


def unified_curriculum(cfg: DictConfig, manifest: Manifest, counts: Sequence[int]) -> Curriculum:
    """Build the curriculum of a model of all magnifications."""
    from zoomldm.curriculum.base import Curriculum

    return option(cfg, "curriculum").make(Curriculum, counts=counts, ladder=manifest.ladder)
