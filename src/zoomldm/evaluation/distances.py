"""Distances between two sets of vectors, as pure functions.

The Fréchet distance and precision/recall are torch-fidelity's functions, handed our vectors, so that nothing is looked
up in its cache, which is keyed by name alone.

Legend: n m samples, d dimension, g groups.
"""

from dataclasses import dataclass

import numpy as np

from zoomldm.evaluation.errors import Measure, Members, jackknife_error
from zoomldm.evaluation.result import FRECHET, KERNEL

SAMPLES_PER_DIMENSION = 4
KERNEL_SAMPLES = 64


def judge_of(num_a: int, num_b: int, dim: int) -> str:
    """Return the estimator that these numbers of samples allow a verdict by.

    The Fréchet distance from 4 samples a dimension on both sides: below that it is mostly bias, which two sets share
    only where they are alike. The kernel distance, which has no bias at any number, from 64: below that its own error
    is not known. "" where neither.
    """
    fewest = min(num_a, num_b)
    if fewest >= SAMPLES_PER_DIMENSION * dim:
        return FRECHET
    return KERNEL if fewest >= KERNEL_SAMPLES else ""


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return |μₐ - μ_b|² + tr(Σₐ + Σ_b - 2 (Σₐ Σ_b)^½) for vectors (n, d) and (m, d); 2 or more on each side."""
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    if min(len(a), len(b)) < 2:
        raise ValueError(f"frechet: got {len(a)} and {len(b)} vectors, expected 2 or more on each side")
    statistics = [fid_features_to_statistics(torch.as_tensor(np.asarray(x, np.float64))) for x in (a, b)]
    for one in statistics:
        one["sigma"] = np.atleast_2d(one["sigma"])
    return max(0.0, fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def paired(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean of |aᵢ - bᵢ|² over pairs of vectors (n, d).

    The Fréchet distance is this mean under the best coupling of two Gaussians; here the coupling is given: every patch
    beside its own reference. Same unit; it sees a condition that was mixed up, which a distance of sets cannot.
    """
    return float(((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2).sum(1).mean())


def kid(a: np.ndarray, b: np.ndarray, members: Members | None = None) -> Measure:
    """Return KID: the squared maximum mean discrepancy of (x·y/d + 1)³ over all samples, without bias.

    Args:
        members: the group of each vector; with it the error is the jackknife's over these groups.
    """
    in_a, in_b = members or (np.zeros(len(a), np.int64), np.zeros(len(b), np.int64))
    groups = int(max(in_a.max(), in_b.max())) + 1
    within_a, within_b = _kernel_sums(a, in_a, a, in_a, groups), _kernel_sums(b, in_b, b, in_b, groups)
    for sums, x, member in ((within_a, a, in_a), (within_b, b, in_b)):
        itself = ((x.astype(np.float64) ** 2).sum(1) / x.shape[1] + 1) ** 3
        sums[np.diag_indices(groups)] -= np.bincount(member, itself, groups)
    across = _kernel_sums(a, in_a, b, in_b, groups)

    def without(left_out: int | None) -> float:
        keep = np.arange(groups) != (-1 if left_out is None else left_out)
        n, m = (int(keep[member].sum()) for member in (in_a, in_b))
        if min(n, m) < 2:
            return float("nan")
        inside = [sums[np.ix_(keep, keep)].sum() for sums in (within_a, within_b, across)]
        return float(inside[0] / (n * (n - 1)) + inside[1] / (m * (m - 1)) - 2 * inside[2] / (n * m))

    value = without(None)
    if groups < 2 or min(len(a), len(b)) < 3 * groups:
        return Measure(value)
    replicates = tuple(without(g) for g in range(groups))
    return Measure(value, jackknife_error(replicates), replicates)


def _kernel_sums(
    a: np.ndarray, in_a: np.ndarray, b: np.ndarray, in_b: np.ndarray, groups: int, *, block: int = 512
) -> np.ndarray:
    """Return the sum of the kernel over the pairs of every two groups, float64 (g, g)."""
    of_b = np.eye(groups)[in_b]
    sums = np.zeros((groups, groups))
    for start in range(0, len(a), block):
        kernel = (a[start : start + block] @ b.T / a.shape[1]).astype(np.float64) + 1
        np.add.at(sums, in_a[start : start + block], kernel**3 @ of_b)
    return sums


def precision_recall(synthetic: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return the share of synthetic vectors in the reals' 3-neighbour balls, and of reals in the synthetics'."""
    import torch
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    result = prc_features_to_metric(torch.as_tensor(synthetic), torch.as_tensor(real), verbose=False, save_cpu_ram=True)
    return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]


def nearest(queries: np.ndarray, others: np.ndarray, *, block: int = 512) -> np.ndarray:
    """Return each query's Euclidean distance to its nearest other vector, (n,)."""
    others = others.astype(np.float64)
    norms = (others**2).sum(1)
    found = []
    for start in range(0, len(queries), block):
        part = queries[start : start + block].astype(np.float64)
        squared = (part**2).sum(1)[:, None] + norms - 2 * part @ others.T
        found.append(np.sqrt(np.maximum(squared.min(1), 0)))
    return np.concatenate(found) if found else np.zeros(0)


@dataclass(frozen=True)
class Memorisation:
    """How near patches come to training patches, beside how near held-out reals come.

    Attributes:
        num_training: training patches that were looked at.
        median: of the distance to the nearest training patch, over the synthetic patches.
        held_out_median: the same over held-out real patches.
        closer_share: share of synthetic patches nearer than 95 of 100 held-out ones; 0.05 is what reals would give.
    """

    num_training: int
    median: float
    held_out_median: float
    closer_share: float


def memorisation(synthetic: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Memorisation:
    """Compare nearest-training distances of synthetic (n, d) and held-out (m, d) vectors."""
    ours, theirs = nearest(synthetic, train), nearest(held_out, train)
    closer_share = float((ours < np.quantile(theirs, 0.05)).mean())
    return Memorisation(len(train), float(np.median(ours)), float(np.median(theirs)), closer_share)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, (n,); 0 where a row is zero."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.maximum(norms, 1e-12)
