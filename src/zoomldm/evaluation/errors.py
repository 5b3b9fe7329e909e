"""How sure a figure is: a jackknife over patients.

The figure is taken again with each of G groups left out. A group is some patients with all their patches: patches of
one patient are alike, and leaving out patches says nothing about other patients. Two figures that left out the same
patches are compared replicate by replicate, which removes what they have in common.

Legend: n m patches, d dimension, G groups.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GROUPS = 20
GROUPS_WIDE = 5  # for wide vectors, whose eigenvalues take seconds
WIDE_DIM = 256
LEAST_PATIENTS = 5  # below that, errors are over patches, and the report says so

Statistic = Callable[[np.ndarray, np.ndarray], float]
Members = tuple[np.ndarray, np.ndarray]
"""The group of each vector of the two sides, int64 (n,) and (m,)."""


@dataclass(frozen=True)
class Measure:
    """A figure, its standard error, and the leave-one-group-out figures it comes from (empty: error unknown)."""

    value: float
    error: float | None = None
    replicates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Averaged(Measure):
    """A figure averaged over runs that differ in their seed alone.

    Attributes:
        error: over patients and over seeds together; replicates: those of the average, without patients.
        seed_error: standard error over the seeds alone; by_seed: the figures that were averaged.
    """

    seed_error: float = 0.0
    by_seed: tuple[float, ...] = ()


class Groups:
    """Which patches are left out together.

    Args:
        patients: of all real training patches that are compared, once for each patch.

    Attributes:
        num_patients: how many there are.
    """

    def __init__(self, patients: Sequence[str]) -> None:
        self._patients = Counter(patients)
        self.num_patients = len(self._patients)

    @property
    def are_patients(self) -> bool:
        """Whether patients are left out; patches are where there are fewer than 5 patients."""
        return self.num_patients >= LEAST_PATIENTS

    def num(self, most: int = GROUPS) -> int:
        """Return how many groups there are."""
        return min(most, self.num_patients) if self.are_patients else most

    def of(self, patients: Sequence[str], num: int, most: int = GROUPS) -> np.ndarray:
        """Return the group of each of ``num`` patches, int64 (num,).

        Args:
            patients: of each patch; empty where a patch is nobody's: then patch i lies in group i mod G. Patients who
                are not among the training patches are dealt to the same number of groups.
        """
        groups = self.num(most)
        if not self.are_patients or not len(patients):
            return np.arange(num) % groups
        known = _dealt(self._patients, groups)
        others = _dealt(Counter(one for one in patients if one not in known), groups)
        return np.array([known.get(one, others.get(one, 0)) for one in patients], np.int64)

    def __str__(self) -> str:
        if not self.are_patients:
            return f"patches of the same patients ({self.num_patients})"
        return f"{self.num_patients} patients in {self.num()} groups"


def _dealt(patients: Counter[str], groups: int) -> dict[str, int]:
    """Deal patients to groups of about equally many patches: the largest first, each to the smallest group."""
    sizes, found = [0] * groups, {}
    for patient, num in sorted(patients.items(), key=lambda item: (-item[1], item[0])):
        found[patient] = sizes.index(min(sizes))
        sizes[found[patient]] += num
    return found


def groups_for(dim: int) -> int:
    """Return how many groups a figure of vectors of this width is taken without, at most."""
    return GROUPS_WIDE if dim > WIDE_DIM else GROUPS


def jackknife(statistic: Statistic, a: np.ndarray, b: np.ndarray, members: Members | None = None) -> Measure:
    """Measure ``statistic(a, b)`` of vectors (n, d) and (m, d).

    Args:
        members: the group of each vector; without it vector i of each side lies in group i mod G.
    """
    value = statistic(a, b)
    if members is None:
        members = tuple(np.arange(len(x)) % groups_for(a.shape[-1]) for x in (a, b))
    in_a, in_b = members
    groups = int(max(in_a.max(initial=-1), in_b.max(initial=-1))) + 1
    if groups < 2 or min(len(a), len(b)) < 3 * groups:
        return Measure(value)
    replicates = tuple(statistic(a[in_a != g], b[in_b != g]) for g in range(groups))
    return Measure(value, jackknife_error(replicates), replicates)


def jackknife_error(replicates: Sequence[float]) -> float:
    """Return the standard error √((G-1)/G · Σ (θ₍g₎ - θ̄)²) of G leave-one-group-out figures."""
    figures = np.asarray(replicates, np.float64)
    return float(np.sqrt((len(figures) - 1) * figures.var()))


def averaged(measures: Sequence[Measure]) -> Averaged:
    """Average a figure over seeds: all leave out the same patients, whose error does not shrink by it."""
    values = tuple(one.value for one in measures)
    seed_error = _over_seeds(values)
    errors = [one.error for one in measures if one.error is not None]
    replicates: tuple[float, ...] = ()
    if measures[0].replicates and len({len(one.replicates) for one in measures}) == 1:
        replicates = tuple(np.mean([one.replicates for one in measures], axis=0).tolist())
    patients = jackknife_error(replicates) if replicates else float(np.mean(errors)) if errors else 0.0
    return Averaged(float(np.mean(values)), float(np.hypot(patients, seed_error)), replicates, seed_error, values)


def difference(a: Measure, b: Measure, *, same_samples: bool = True, same_seeds: bool = False) -> Measure:
    """Measure a - b: replicate by replicate where both left out the same samples, else with independent errors.

    Args:
        same_seeds: two averages are of the same runs, so their differences are taken seed by seed; else seeds are
            independent.
    """
    value = a.value - b.value
    if same_samples and a.replicates and len(a.replicates) == len(b.replicates):
        replicates = tuple(x - y for x, y in zip(a.replicates, b.replicates))
        of_seeds = _of_seeds([one for one in (a, b) if isinstance(one, Averaged)], same_seeds)
        return Measure(value, float(np.hypot(jackknife_error(replicates), of_seeds)), replicates)
    if a.error is None or b.error is None:
        return Measure(value)
    return Measure(value, float(np.hypot(a.error, b.error)))


def _of_seeds(averages: Sequence[Averaged], are_same: bool) -> float:
    """Return what seeds add to the error of a difference."""
    by_seed = [one.by_seed for one in averages]
    if are_same and len(by_seed) == 2 and len(by_seed[0]) == len(by_seed[1]) > 1:
        return _over_seeds(np.subtract(*by_seed))
    return float(np.linalg.norm([one.seed_error for one in averages]))


def _over_seeds(values: Sequence[float]) -> float:
    """Return the standard error of a mean over seeds."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
