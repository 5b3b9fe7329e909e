"""Distances agree with closed forms; their errors cover what another draw would give."""

import numpy as np
import pytest

from zoomldm.evaluation import distances


def draws(seed: int, n: int = 400, d: int = 4, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


def exactly(mean: np.ndarray, covariance: np.ndarray, seed: int = 0, n: int = 200) -> np.ndarray:
    """Draw vectors whose sample mean and covariance are the given ones."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False)))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_of_a_set_to_itself_is_zero():
    a = draws(0)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_closed_form_for_commuting_gaussians():
    a = exactly(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    b = exactly(np.array([1.0, 0.0, 2.0]), np.diag([4.0, 4.0, 1.0]), seed=1)
    assert distances.frechet(a, b) == pytest.approx(5 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2, rel=1e-6)


def test_symmetric_and_unmoved_by_a_rotation():
    a, b = draws(0), draws(1, shift=0.5, scale=1.5)
    turn = np.linalg.qr(draws(2, n=4))[0]
    assert distances.frechet(a, b) == pytest.approx(distances.frechet(b, a), rel=1e-6)
    assert distances.frechet(a @ turn, b @ turn) == pytest.approx(distances.frechet(a, b), rel=1e-4)


def test_one_dimension_works():
    assert distances.frechet(exactly(np.zeros(1), np.eye(1)), exactly(np.ones(1), np.eye(1), 1)) == pytest.approx(1)


def test_paired_is_never_below_the_set_distance():
    a, b = draws(0), draws(1, shift=0.3)
    assert distances.paired(a, b) >= distances.frechet(a, b)
    assert distances.paired(a, a + 2) == pytest.approx(16, rel=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "dim", "judge"),
    [
        (80, 80, 20, "frechet"),
        (79, 500, 20, "kid"),
        (500, 63, 20, ""),
        (10_000, 8192, 2048, "frechet"),
        (2000, 2000, 2048, "kid"),
    ],
)
def test_numbers_choose_the_estimator_of_a_verdict(a, b, dim, judge):
    assert distances.judge_of(a, b, dim) == judge


def in_groups(x: np.ndarray, groups: int = 10) -> np.ndarray:
    return np.arange(len(x)) % groups


def kid_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x, y):
        return (x.astype(np.float64) @ y.T.astype(np.float64) / x.shape[1] + 1) ** 3

    off = [(kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return off[0] + off[1] - 2 * kernel(a, b).mean()


def test_kid_and_its_replicates_are_the_unbiased_estimator():
    a, b = draws(0, n=60), draws(1, n=70, shift=0.3)
    found = distances.kid(a, b, (in_groups(a), in_groups(b)))
    assert found.value == pytest.approx(kid_by_hand(a, b), rel=1e-5)
    assert found.replicates[3] == pytest.approx(kid_by_hand(a[in_groups(a) != 3], b[in_groups(b) != 3]), rel=1e-5)


def test_kid_agrees_with_torch_fidelity():
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    a, b = draws(0), draws(1, shift=0.5)
    theirs = kid_features_to_metric(
        torch.as_tensor(a), torch.as_tensor(b), kid_subset_size=len(a), kid_subsets=1, verbose=False
    )
    assert distances.kid(a, b).value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-5)


def test_kid_has_no_bias_where_the_frechet_distance_has():
    pairs = [(draws(2 * i, n=64, d=40), draws(2 * i + 1, n=64, d=40)) for i in range(30)]
    values = np.array([distances.kid(a, b).value for a, b in pairs])
    assert abs(values.mean()) < 3 * values.std() / 30**0.5
    assert min(distances.frechet(a, b) for a, b in pairs) > 5


def test_kid_is_about_zero_for_the_same_source_and_grows():
    members = (in_groups(draws(0)), in_groups(draws(1)))
    near = distances.kid(draws(0), draws(1), members)
    far = distances.kid(draws(0), draws(1, shift=1), members)
    assert abs(near.value) < 3 * near.error
    assert far.value > near.value + 3 * near.error


def test_precision_and_recall_tell_invention_from_omission():
    wide, narrow = draws(0, d=2, scale=3), draws(1, d=2, scale=0.5)
    precision, recall = distances.precision_recall(narrow, wide)
    assert precision > 0.95
    assert recall < 0.4
    assert distances.precision_recall(wide, narrow)[0] < 0.4


def test_nearest_equals_brute_force():
    a, b = draws(0, n=30), draws(1, n=40)
    brute = np.linalg.norm(a[:, None] - b[None], axis=2).min(1)
    assert np.allclose(distances.nearest(a, b, block=7), brute, atol=1e-5)


def test_copies_are_found_and_fresh_draws_are_not():
    train, held_out = draws(0), draws(1)
    copied = distances.memorisation(train[:50] + 1e-3, train, held_out)
    fresh = distances.memorisation(draws(2), train, held_out)
    assert copied.closer_share == 1
    assert fresh.closer_share < 0.15
    assert fresh.median == pytest.approx(fresh.held_out_median, rel=0.15)


def test_cosine_of_zero_rows_is_zero():
    assert distances.cosine(np.array([[1.0, 0], [0, 0]]), np.array([[2.0, 0], [1, 1]])).tolist() == [1, 0]
