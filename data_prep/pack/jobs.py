"""Which sample goes into which shard: by split and magnification, balanced, in a seeded order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.pack.splits import NOTHING
from data_prep.preparation import Contents
from zoomldm.data.schema import SPLITS, TEST, TRAIN
from zoomldm.ladder import Rung

SHARDS = "shards"
Counts = dict[str, dict[str, int]]
"""Samples by split and magnification."""


@dataclass(frozen=True, kw_only=True)
class PackedSlide:
    """What a sample needs to know of its slide; ``mpp_ratio`` is the true mpp of the base by the nominal one."""

    name: str
    patient: str
    labels: dict[str, Any]
    mpp_ratio: float
    pitch_px0: float


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard to write.

    Attributes:
        place: below the folder of shards, without a column: ``train/20x/00000``.
        batch, turn: the batch of its slides, and which of that batch's shards of this split and rung it is.
        folder: where it is written, in ``root``; it may be beside finished shards until it takes their place.
        slide_of, number: for each sample its slide's place in ``slides``, and its number among the slide's samples.
        statistics: with which rows are standardised, where given.
        bytes_a_sample: at most so many, in memory.
        waiting: the grids are made of the rows that wait beside the slides'.
    """

    root: Path
    place: str
    batch: int
    turn: int
    split: str
    rung: Rung
    image_format: str
    has_references: bool
    slides: tuple[PackedSlide, ...]
    slide_of: np.ndarray
    number: np.ndarray
    statistics: dict[str, Any] | None
    bytes_a_sample: int
    folder: str = SHARDS
    waiting: bool = False

    @property
    def path(self) -> str:
        """Return the shard's path in ``root``, as the manifest has it."""
        return f"{SHARDS}/{self.place}"

    @property
    def base(self) -> Path:
        """Return where the shard is written, without a column."""
        return self.root / self.folder / self.place

    @property
    def record_path(self) -> Path:
        """Return the file that says that the shard is finished: its line in the manifest."""
        return Path(f"{self.base}.json")


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All samples of a split and rung: of each the place of its slide in ``Contents.done`` and its number there."""

    slide_of: np.ndarray
    number: np.ndarray


def make_jobs(
    contents: Contents, *, statistics: dict[str, Any] | None, batches: list[list[str]]
) -> tuple[list[ShardJob], Counts, dict[str, str]]:
    """Return the shards to write, the counts, and the magnifications left out with the reason of each.

    batches: slides by name; those of a batch are mixed, and no shard holds slides of two.
    """
    gathered = gather(contents)
    rungs = contents.preparation.slide_settings.ladder.rungs
    counts = {
        split: {r.label: len(gathered[split, r.index].number) if (split, r.index) in gathered else 0 for r in rungs}
        for split in SPLITS
    }
    dropped = too_few(contents, counts)
    slides = _packed_slides(contents)
    jobs = [
        _job(contents, slides, f"{split}/{rung.label}/{number:05d}", piece, split, rung, statistics)
        for split in SPLITS
        for rung in rungs
        if rung.label not in dropped and (split, rung.index) in gathered
        for number, piece in enumerate(_shuffled(contents, gathered[split, rung.index], split, rung, batches))
    ]
    counts = {split: {k: v for k, v in c.items() if k not in dropped and v} for split, c in counts.items()}
    return jobs, counts, dropped


def gather(contents: Contents) -> dict[tuple[str, int], Gathered]:
    """Return the samples of each (split, rung), slides by name; of test no more a slide than ``max_test_per_slide``."""
    told = contents.preparation.pack_settings
    most = told.max_test_per_slide or {}
    found: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for place, state in enumerate(contents.done):
        store = contents.preparation.store(state.slide)
        store.check_rows(state)
        for rung in contents.preparation.slide_settings.ladder.rungs:
            splits = contents.split.of_samples(state, store.mapped(rung.index)[1].corner, rung.grid_side)
            for split in SPLITS:
                numbers = np.flatnonzero(splits == split).astype(np.int32)
                if split == TEST and len(numbers) > (limit := most.get(rung.label) or len(numbers)):
                    rng = np.random.default_rng(list(f"{told.seed}:{state.slide}:{rung.label}".encode()))
                    numbers = np.sort(rng.permutation(numbers)[:limit])
                if len(numbers):
                    found.setdefault((split, rung.index), []).append((np.full_like(numbers, place), numbers))
    return {
        where: Gathered(slide_of=np.concatenate([s for s, _ in parts]), number=np.concatenate([n for _, n in parts]))
        for where, parts in found.items()
    }


def too_few(contents: Contents, counts: Counts) -> dict[str, str]:
    """Return the magnifications with too few samples in a split, each with the reason."""
    dropped = {}
    least = contents.preparation.pack_settings.min_samples
    least = least | ({TEST: 0} if contents.split.held_out == NOTHING else {})
    for rung in contents.preparation.slide_settings.ladder.rungs:
        have = {split: counts[split].get(rung.label, 0) for split in SPLITS}
        if any(have[split] < least[split] for split in SPLITS):
            dropped[rung.label] = (
                f"too little tissue for regions of {rung.region_px} px: {have[TRAIN]} training and {have[TEST]} test "
                f"samples, {least[TRAIN]} and {least[TEST]} wanted (data.min_samples)"
            )
    return dropped


def _packed_slides(contents: Contents) -> list[PackedSlide]:
    preparation = contents.preparation
    return [
        PackedSlide(
            name=state.slide,
            patient=state.patient,
            labels=preparation.spec_of[state.slide].labels,
            mpp_ratio=state.scale.mpp_true / preparation.slide_settings.ladder.base_mpp,
            pitch_px0=state.scale.pitch_px0,
        )
        for state in contents.done
    ]


def _shuffled(
    contents: Contents, samples: Gathered, split: str, rung: Rung, batches: list[list[str]]
) -> list[tuple[int, int, Gathered]]:
    """Cut the samples of a split and rung into nearly equal shards, each batch by itself: (batch, turn, which)."""
    settings = contents.preparation.pack_settings
    batch_of = {name: number for number, batch in enumerate(batches) for name in batch}
    batch_of_slide = np.array([batch_of[state.slide] for state in contents.done])
    pieces: list[tuple[int, int, Gathered]] = []
    for batch in range(len(batches)):
        members = np.flatnonzero(batch_of_slide[samples.slide_of] == batch)
        seed = [settings.seed, rung.index, int(split == TEST), *([batch] if batch else [])]
        order = members[np.random.default_rng(seed).permutation(len(members))]
        if len(order):
            for turn, cut in enumerate(np.array_split(order, -(-len(order) // settings.shard_samples))):
                pieces.append((batch, turn, Gathered(slide_of=samples.slide_of[cut], number=samples.number[cut])))
    return pieces


def _job(
    contents: Contents,
    slides: list[PackedSlide],
    place: str,
    piece: tuple[int, int, Gathered],
    split: str,
    rung: Rung,
    statistics: dict[str, Any] | None,
) -> ShardJob:
    settings = contents.preparation.slide_settings
    batch, turn, samples = piece
    used, slide_of = np.unique(samples.slide_of, return_inverse=True)
    patch_px, has_references = settings.ladder.patch_px, settings.reference[rung.label] > 0
    grid_bytes = 2 * rung.grid_side**2 * (1 + contents.done[0].encoder["dim"])
    return ShardJob(
        root=contents.root,
        place=place,
        batch=batch,
        turn=turn,
        split=split,
        rung=rung,
        image_format=settings.image_format,
        has_references=has_references,
        slides=tuple(slides[i] for i in used),
        slide_of=slide_of.astype(np.int32),
        number=samples.number,
        statistics=statistics,
        bytes_a_sample=3 * patch_px**2 * (1 + has_references) + grid_bytes,
    )
