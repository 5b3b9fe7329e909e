"""The global sequence: frequencies, epochs, and any sample number without those before it."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from tests.helpers.options import make_curriculum
from tests.helpers.settings import make_ladder
from zoomldm.curriculum.coarse_to_fine import CoarseToFine
from zoomldm.curriculum.proportional import Proportional
from zoomldm.curriculum.schedule import Schedule
from zoomldm.curriculum.tempered import Tempered
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.order.sequence import GlobalSequence, permuted, seeded_subset

COUNTS = np.array([1200, 300, 75, 18, 0, 3, 2, 1])
CURRICULA = [
    Uniform(COUNTS),
    Proportional(COUNTS),
    Tempered(COUNTS, temperature=0.3),
    make_curriculum("coarse_to_fine", COUNTS, steps=100),
    Schedule(
        COUNTS,
        ladder=make_ladder(),
        stages=[{"from_step": 0, "weights": {20: 1}}, {"from_step": 7, "weights": {10: 1, 0.3125: 3}}],
    ),
]


def sequence_of(curriculum, global_batch=24, seed=1) -> GlobalSequence:
    return GlobalSequence(seed=seed, curriculum=curriculum, counts=COUNTS, global_batch=global_batch)


@pytest.mark.parametrize("curriculum", CURRICULA, ids=lambda c: type(c).__name__)
def test_frequencies_match_the_curriculum_and_no_magnification_is_missed(curriculum):
    draws = sequence_of(curriculum).draws(np.arange(24 * 300))
    realised = np.bincount(draws.rung, minlength=8)
    expected = curriculum.samples_until(300, 24)
    possible = expected > 0
    assert not realised[~possible].any()
    statistic = ((realised - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic < chi2.ppf(0.99, possible.sum() - 1)


def test_a_batch_holds_each_magnification_in_proportion():
    sequence = sequence_of(Uniform(COUNTS), global_batch=70)
    per_batch = np.stack([np.bincount(sequence.step(s).rung, minlength=8) for s in range(50)])
    assert (abs(per_batch[:, COUNTS > 0] - 10) <= 2).all()


@pytest.mark.parametrize("curriculum", CURRICULA, ids=lambda c: type(c).__name__)
def test_every_epoch_visits_every_sample_once(curriculum):
    draws = sequence_of(curriculum).draws(np.arange(24 * 300))
    for k in np.unique(draws.rung):
        visits = np.bincount(draws.index[draws.rung == k], minlength=COUNTS[k])
        assert visits.max() - visits.min() <= 1
        assert len(visits) == COUNTS[k]


def test_epochs_differ_in_their_order():
    sequence = sequence_of(
        Schedule(COUNTS, ladder=make_ladder(), stages=[{"from_step": 0, "weights": {5: 1}}]), global_batch=75
    )
    orders = [sequence.step(s).index.tolist() for s in range(3)]
    assert all(sorted(order) == list(range(75)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("curriculum", CURRICULA, ids=lambda c: type(c).__name__)
def test_position_counts_what_was_drawn(curriculum):
    sequence = sequence_of(curriculum)
    for step in (0, 1, 6, 8, 49, 51, 120):
        drawn = np.bincount(sequence.draws(np.arange(24 * step)).rung, minlength=8)
        assert sequence.position(step).tolist() == drawn.tolist()


@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(0, 10**10), min_size=1, max_size=20), seed=st.integers(0, 2**63))
def test_a_sample_does_not_depend_on_which_others_are_asked_for(numbers, seed):
    sequence = sequence_of(CURRICULA[3], seed=seed)
    together = sequence.draws(np.array(numbers))
    alone = [sequence.draws(np.array([n])) for n in numbers]
    assert together.rung.tolist() == [int(d.rung[0]) for d in alone]
    assert together.index.tolist() == [int(d.index[0]) for d in alone]
    assert (together.index < COUNTS[together.rung]).all()


def test_another_seed_gives_another_order_and_the_same_seed_the_same():
    first, again, other = (sequence_of(CURRICULA[0], seed=s).step(5) for s in (1, 1, 2))
    assert first.index.tolist() == again.index.tolist()
    assert first.index.tolist() != other.index.tolist()


def test_neighbours_are_not_of_one_magnification():
    rungs = sequence_of(Uniform(COUNTS), global_batch=700).step(3).rung
    assert len(np.unique(rungs[:40])) == 7
    assert len(np.unique(rungs[::8][:40])) == 7


def test_step_one_million_costs_what_step_one_costs():
    counts = np.array([12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 2_500])
    sequence = GlobalSequence(seed=0, curriculum=Uniform(counts), counts=counts, global_batch=600)
    sequence.step(0)
    start = time.perf_counter()
    draws = sequence.step(1_000_000)
    assert time.perf_counter() - start < 0.1
    assert len(set(zip(draws.rung.tolist(), draws.index.tolist()))) > 590


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permutation_is_one(count, key):
    places = np.arange(count)
    image = permuted(places, np.full(count, count), np.full(count, key, np.uint64))
    assert sorted(image.tolist()) == places.tolist()


def test_permutations_spread_evenly():
    """Each of the 24 orders of four comes up as often as another over many keys."""
    keys = np.repeat(np.arange(4800, dtype=np.uint64) * np.uint64(7919), 4)
    places = np.tile(np.arange(4), 4800)
    orders = permuted(places, np.full(len(places), 4), keys).reshape(-1, 4) @ [64, 16, 4, 1]
    _, times = np.unique(orders, return_counts=True)
    assert len(times) == 24
    assert ((times - 200) ** 2 / 200).sum() < chi2.ppf(0.999, 23)


def test_a_larger_subset_holds_the_smaller_one():
    small, large = seeded_subset(1000, 50, seed=3), seeded_subset(1000, 200, seed=3)
    assert set(small) <= set(large)
    assert len(set(large)) == 200
    assert seeded_subset(10, 50, seed=3).tolist() == list(range(10))
    assert len(seeded_subset(0, 50, seed=3)) == 0
