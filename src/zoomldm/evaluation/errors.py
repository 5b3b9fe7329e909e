"""How sure a figure is: a delete-a-group jackknife.

The figure is taken again with each of G groups of samples left out. Two figures that left out the same samples are
compared replicate by replicate, which removes what they have in common.

Legend: n m samples, d dimension, G groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GROUPS = 20
GROUPS_WIDE = 5  # for wide vectors, whose eigenvalues take seconds
WIDE_DIM = 256

Statistic = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Measure:
    """A figure, its standard error, and the leave-one-group-out figures it comes from (empty: error unknown)."""

    value: float
    error: float | None = None
    replicates: tuple[float, ...] = ()


def jackknife(statistic: Statistic, a: np.ndarray, b: np.ndarray, *, groups: int | None = None) -> Measure:
    """Measure ``statistic(a, b)`` of vectors (n, d) and (m, d); sample i of each side lies in group i mod G."""
    value = statistic(a, b)
    groups = groups or (GROUPS_WIDE if a.shape[1] > WIDE_DIM else GROUPS)
    if min(len(a), len(b)) < 3 * groups:
        return Measure(value)
    member = [np.arange(len(x)) % groups for x in (a, b)]
    replicates = tuple(statistic(a[member[0] != g], b[member[1] != g]) for g in range(groups))
    return Measure(value, jackknife_error(replicates), replicates)


def jackknife_error(replicates: Sequence[float]) -> float:
    """Return the standard error √((G-1)/G · Σ (θ₍g₎ - θ̄)²) of G leave-one-group-out figures."""
    figures = np.asarray(replicates, np.float64)
    return float(np.sqrt((len(figures) - 1) * figures.var()))


def difference(a: Measure, b: Measure, *, same_samples: bool = True) -> Measure:
    """Measure a - b: replicate by replicate where both left out the same samples, else with independent errors."""
    value = a.value - b.value
    if same_samples and a.replicates and len(a.replicates) == len(b.replicates):
        replicates = tuple(x - y for x, y in zip(a.replicates, b.replicates))
        return Measure(value, jackknife_error(replicates), replicates)
    if a.error is None or b.error is None:
        return Measure(value)
    return Measure(value, float(np.hypot(a.error, b.error)))
