"""Standard errors cover what another draw would give, and what two figures have in common cancels."""

import numpy as np
import pytest

from zoomldm.evaluation.distances import frechet
from zoomldm.evaluation.errors import GROUPS, Groups, Measure, difference, jackknife


def draws(seed: int, n: int = 400, d: int = 4, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


def test_jackknife_error_of_a_mean_is_the_textbook_one():
    a = draws(0, d=1)
    measure = jackknife(lambda x, y: float(x.mean()), a, a)
    assert measure.error == pytest.approx(float(a.std(ddof=1) / np.sqrt(len(a))), rel=0.35)
    assert len(measure.replicates) == GROUPS


def test_jackknife_error_is_about_the_spread_over_draws():
    b = draws(999, n=2000)
    values = [frechet(draws(seed, shift=0.6), b) for seed in range(30)]
    error = jackknife(frechet, draws(0, shift=0.6), b).error
    assert 0.5 < error / np.std(values) < 2


def test_few_samples_have_no_error():
    assert jackknife(frechet, draws(0, n=50), draws(1, n=50)).error is None


def test_common_samples_cancel_in_a_difference():
    a, reference = draws(0), draws(1)
    low = jackknife(frechet, a + 0.5, reference)
    high = jackknife(frechet, a + 0.6, reference)
    together, apart = difference(high, low), difference(high, low, same_samples=False)
    assert together.value == apart.value == pytest.approx(high.value - low.value)
    assert together.error < apart.error


def test_difference_without_errors_has_none():
    assert difference(Measure(2.0), Measure(1.0, 0.1)) == Measure(1.0)


def test_patches_of_a_patient_are_left_out_together():
    patients = ["a"] * 9 + ["b", "c"] * 3 + ["d", "e", "f"] * 2
    groups = Groups(patients)
    members = groups.of(patients, len(patients), 5)
    assert groups.num(5) == 5
    assert {len({m for m, p in zip(members, patients) if p == one}) for one in "abcdef"} == {1}
    assert set(members) == set(range(5))


def test_patients_who_are_held_out_have_groups_of_their_own():
    groups = Groups([f"p{i % 8}" for i in range(80)])
    members = groups.of([f"t{i % 3}" for i in range(30)], 30)
    assert len(set(members)) == 3
    assert max(members) < groups.num() == 8


def test_an_error_over_patients_is_about_the_spread_over_other_patients():
    """Patches of a patient are alike: leaving out patches misses most of the error."""

    def patches(seed: int) -> tuple[np.ndarray, list[str]]:
        rng = np.random.default_rng(seed)
        means = rng.normal(size=(20, 1, 1)).repeat(30, 1) + 0.2 * rng.normal(size=(20, 30, 1))
        return means.reshape(600, 1), [f"p{i // 30}" for i in range(600)]

    def mean(a: np.ndarray, _: np.ndarray) -> float:
        return float(a.mean())

    spread = np.std([mean(patches(seed)[0], None) for seed in range(200)])
    vectors, patients = patches(0)
    members = Groups(patients).of(patients, 600)
    over_patients = jackknife(mean, vectors, vectors, (members, members)).error
    assert over_patients == pytest.approx(spread, rel=0.5)
    shuffled = np.random.default_rng(1).permutation(vectors)
    assert jackknife(mean, shuffled, shuffled).error < spread / 3
