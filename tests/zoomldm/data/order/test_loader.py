"""The training loader: ranks and workers partition the sequence and change nothing in it."""

import os
import resource

import numpy as np
import pytest
import torch

import gc
from tests.helpers.toy_data import make_toy_data
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.order.loader import Partition, TrainLoader, partition
from zoomldm.data.reader import SampleSource
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.order.slots import SlotRing
from zoomldm.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    make_toy_data(root)
    return SampleSource(root, split="train", columns=("latent", "grid", "meta"))


def sequence_of(source, global_batch=12):
    return GlobalSequence(seed=5, curriculum=Uniform(source.counts), counts=source.counts, global_batch=global_batch)


def load(source, part, *, start=0, end=6, workers=0):
    loader = TrainLoader(source, sequence_of(source), part, start_step=start, end_step=end, num_workers=workers)
    return [batch.to("cpu") for batch in loader]


def contents(batches):
    return [
        (number, key, latent.numpy().tobytes())
        for batch in batches
        for number, key, latent in zip(batch.sample_number.tolist(), batch.keys, batch.latent)
    ]


def test_any_number_of_workers_gives_the_same_batches(source):
    part = partition(12, max_micro_batch=12, world_size=1)
    none, one, three = (load(source, part, workers=n) for n in (0, 1, 3))
    assert contents(none) == contents(one) == contents(three)
    for a, b in zip(none, three):
        assert all(torch.equal(x.index, y.index) and torch.equal(x.values, y.values) for x, y in zip(a.grids, b.grids))


def test_ranks_and_accumulation_divide_the_same_sequence(source):
    whole = contents(load(source, partition(12, max_micro_batch=12, world_size=1)))
    for world_size, micro in ((1, 4), (2, 6), (2, 3), (4, 1)):
        parts = [
            contents(load(source, partition(12, max_micro_batch=micro, world_size=world_size, rank=rank)))
            for rank in range(world_size)
        ]
        assert sorted(sample for part in parts for sample in part) == whole
    halves = [load(source, partition(12, max_micro_batch=6, world_size=2, rank=rank)) for rank in range(2)]
    first_step = [n for half in halves for n in half[0].sample_number.tolist()]
    assert first_step == list(range(12))


def test_starting_later_gives_the_rest(source):
    part = partition(12, max_micro_batch=4, world_size=1)
    assert contents(load(source, part, start=4)) == contents(load(source, part))[4 * 12 :]


def test_the_largest_equal_micro_batch_is_chosen():
    cases = {(600, 200, 3): (200, 1), (600, 200, 1): (200, 3), (600, 64, 8): (25, 3), (7, 4, 1): (1, 7)}
    for (batch, most, devices), (micro, accumulation) in cases.items():
        part = partition(batch, max_micro_batch=most, world_size=devices)
        assert (part.micro_batch, part.accumulation) == (micro, accumulation)


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_do():
    with pytest.raises(ConfigError, match=r"optim\.batch_size=10.*9 or 12"):
        partition(10, max_micro_batch=4, world_size=3)
    with pytest.raises(ConfigError, match="2 or 4"):
        partition(3, max_micro_batch=4, world_size=2)
    with pytest.raises(ConfigError):
        Partition(global_batch=10, micro_batch=4)


def test_a_batch_larger_than_the_data_goes_round_the_epochs(source):
    part = partition(200, max_micro_batch=200, world_size=1)
    loader = TrainLoader(source, sequence_of(source, 200), part, start_step=0, end_step=1)
    (batch,) = loader
    assert len(batch) == 200
    assert np.bincount(batch.rung).min() > 60
    assert len(set(batch.keys)) == 40 + 20 + 8


def test_more_workers_than_shards_and_batches(source):
    part = partition(12, max_micro_batch=12, world_size=1)
    assert contents(load(source, part, end=1, workers=4)) == contents(load(source, part, end=1))


def test_a_damaged_shard_stops_the_worker_with_its_name(tmp_path):
    make_toy_data(tmp_path)
    source = SampleSource(tmp_path, split="train", columns=("latent",))
    (tmp_path / "shards/train/5x/00000.latent.tar").unlink()
    with pytest.raises(DataError, match=r"5x/00000\.latent\.tar"):
        load(source, partition(12, max_micro_batch=12, world_size=1), workers=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_are_kept_are_never_written_over(source, workers):
    """More of them than there are slots: the rest comes in memory of its own."""
    part = partition(12, max_micro_batch=4, world_size=1)
    loader = TrainLoader(source, sequence_of(source), part, start_step=0, end_step=10, num_workers=workers, prefetch=1)
    kept, seen = [], []
    for batch in loader:
        kept.append(batch)
        seen.extend(contents([batch]))
    assert len(kept) == 30
    assert contents(kept) == seen == contents(load(source, part, end=10))


def test_a_batch_that_is_let_go_gives_its_slot_back_at_once(source):
    """And not when the garbage collector comes, which is seldom: every batch would be in fresh memory."""
    part = partition(12, max_micro_batch=4, world_size=1)
    loader = TrainLoader(source, sequence_of(source), part, start_step=0, end_step=10)
    gc.disable()
    try:
        addresses = {batch.latent.data_ptr() for batch in loader}
    finally:
        gc.enable()
    assert len(addresses) <= 2 * 2  # the batch at hand and the next one; a latent's place in a slot varies


def test_slots_are_given_back_when_the_last_tensor_is_gone():
    ring = SlotRing(num_workers=2, per_worker=2, slot_bytes=100)
    slots = [ring.take(1, 100), ring.take(1, 50)]
    assert sorted(slots) == [2, 3]
    assert ring.take(1, 10) is None
    assert ring.take(0, 10) == 0
    assert ring.take(0, 1 << 20) is None
    tensor = ring.received(slots[0], 64)
    part = tensor[8:16].view(torch.int64)
    del tensor
    assert ring.take(1, 10) is None
    del part
    assert ring.take(1, 10) == slots[0]


def test_memory_stays_small_with_twelve_million_samples():
    counts = np.array([12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 2_500])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sequence = GlobalSequence(seed=0, curriculum=Uniform(counts), counts=counts, global_batch=600)
    for step in (0, 10**6):
        sequence.step(step)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert os.getpid()
