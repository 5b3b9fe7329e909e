"""Standard errors cover what another draw would give, and what two figures have in common cancels."""

import numpy as np
import pytest

from zoomldm.evaluation.distances import frechet
from zoomldm.evaluation.errors import GROUPS, Measure, difference, jackknife


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
