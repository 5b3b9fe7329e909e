"""Distances between two sets of vectors, as pure functions.

The Fréchet distance, KID and precision/recall are torch-fidelity's functions, handed our vectors, so that nothing is
looked up in its cache, which is keyed by name alone.

Legend: n m samples, d dimension.
"""

from dataclasses import dataclass

import numpy as np

from zoomldm.evaluation.errors import Measure

SAMPLES_PER_DIMENSION = 4


def is_judged(num_a: int, num_b: int, dim: int) -> bool:
    """Tell whether both sides have at least 4 samples a dimension; below that a Fréchet distance is mostly bias."""
    return min(num_a, num_b) >= SAMPLES_PER_DIMENSION * dim


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


def kid(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> Measure:
    """Return the kernel distance (cubic polynomial kernel), mean and spread over 100 subsets of at most 1000.

    The subset is at most half of the smaller side: over all samples every subset would be the same.
    """
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    size = min(1000, min(len(a), len(b)) // 2)
    result = kid_features_to_metric(
        torch.as_tensor(a), torch.as_tensor(b), kid_subset_size=size, rng_seed=seed, verbose=False
    )
    return Measure(result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD])


def precision_recall(synthetic: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return the share of synthetic vectors in the reals' 3-neighbour balls, and of reals in the synthetics'."""
    import torch
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    result = prc_features_to_metric(torch.as_tensor(synthetic), torch.as_tensor(real), verbose=False, save_cpu_ram=True)
    return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]


def nearest(queries: np.ndarray, others: np.ndarray, *, block: int = 512) -> np.ndarray:
    """Return each query's Euclidean distance to its nearest other vector, (n,)."""
    norms = (others.astype(np.float64) ** 2).sum(1)
    found = []
    for start in range(0, len(queries), block):
        part = queries[start : start + block].astype(np.float64)
        squared = (part**2).sum(1)[:, None] + norms - 2 * part @ others.astype(np.float64).T
        found.append(np.sqrt(np.maximum(squared.min(1), 0)))
    return np.concatenate(found) if found else np.zeros(0)


@dataclass(frozen=True)
class Memorisation:
    """How near patches come to training patches, beside how near held-out reals come.

    Attributes:
        median: of the distance to the nearest training patch, over the synthetic patches.
        held_out_median: the same over held-out real patches.
        closer_share: share of synthetic patches nearer than 95 of 100 held-out ones; 0.05 is what reals would give.
    """

    median: float
    held_out_median: float
    closer_share: float


def memorisation(synthetic: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Memorisation:
    """Compare nearest-training distances of synthetic (n, d) and held-out (m, d) vectors."""
    ours, theirs = nearest(synthetic, train), nearest(held_out, train)
    return Memorisation(
        float(np.median(ours)), float(np.median(theirs)), float((ours < np.quantile(theirs, 0.05)).mean())
    )


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, (n,); 0 where a row is zero."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.maximum(norms, 1e-12)
