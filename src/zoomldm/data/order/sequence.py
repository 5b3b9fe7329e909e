"""The one global sequence of training samples: a pure function of (seed, sample number).

Sample number n belongs to step n // B of global batch B. Which magnification it has comes from a point u(n) in [0, 1)
against the cumulative p(magnification | step); which sample of that magnification, from that magnification's own
stream, whose epoch e is a permutation keyed by (seed, e). Nothing is remembered: any n is reached at once, and ranks
and workers only partition the numbers.

The points are a randomly shifted van der Corput sequence (van der Corput, 1935), shuffled within each step, and not
independent draws. Two things follow. The number of points below a threshold among the first n is known in closed form
(a sum over bits), so the position in a magnification's stream is exact, every epoch visits every sample once, and
jumping to step 1,000,000 costs what step 1 costs. And each global batch holds the magnifications in their proportions
to within about one sample, where independent draws scatter by sqrt(B p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from zoomldm.errors import ConfigError

POINT_BITS = 48  # the points are multiples of 2^-48; the sequence repeats after 2^48 samples
_SCALE = 1 << POINT_BITS
_FEISTEL_ROUNDS = 6


class HasProbabilities(Protocol):
    """What the sequence needs of a curriculum (zoomldm/curriculum.py)."""

    changes: tuple[int, ...]

    def probabilities(self, step: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Draws:
    """Samples in order: sample_number, rung and index within the rung's samples, each int64 (b,)."""

    sample_number: np.ndarray
    rung: np.ndarray
    index: np.ndarray


class GlobalSequence:
    """Map sample numbers to samples.

    seed: of the run; counts: samples of each rung, (K,); global_batch: samples of one step.
    shard_sizes: samples of each shard of each rung. With them an epoch goes from shard to shard, in a permuted order
    and permuted within each, so that shards which lie elsewhere are fetched one after the other.
    """

    def __init__(
        self,
        *,
        seed: int,
        curriculum: HasProbabilities,
        counts: np.ndarray,
        global_batch: int,
        shard_sizes: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.seed, self.shard_sizes = seed, shard_sizes
        self.counts = np.asarray(counts, dtype=np.int64)
        self.global_batch = global_batch
        shift = int(mix64(_stream_key(seed, "points"), 0)[0]) & (_SCALE - 1)
        self._shift = shift
        self._variant_key = _stream_key(seed, "variants")
        self._order_key = _stream_key(seed, "order within the step")
        self._epoch_keys = np.array([_stream_key(seed, f"rung {k}") for k in range(len(self.counts))], np.uint64)
        self._starts = np.asarray(curriculum.changes, dtype=np.int64)
        pieces = [_thresholds(curriculum.probabilities(int(start))) for start in self._starts]
        self._refuse_empty(curriculum)
        self._thresholds = np.stack(pieces)  # (pieces, K + 1), from 0 to 2^48
        self._residues = _residues(self._thresholds, shift)  # (pieces, K + 1, bits)
        before = self._drawn_before(self._starts * global_batch)
        until = self._drawn_before(np.append(self._starts[1:], self._starts[-1]) * global_batch)
        drawn = np.cumsum(until - before, axis=0)
        self._stream_start = np.vstack([np.zeros_like(drawn[:1]), drawn[:-1]]) - before  # (pieces, K)

    def _refuse_empty(self, curriculum: HasProbabilities) -> None:
        for start in self._starts.tolist():
            empty = np.flatnonzero((curriculum.probabilities(start) > 0) & (self.counts == 0))
            if len(empty):
                raise ConfigError(
                    f"curriculum: from step {start} on it draws rungs {empty.tolist()} of the ladder, which have no "
                    "sample (after exclude.txt); give it the counts of the samples that are left"
                )

    def step(self, step: int) -> Draws:
        """Return the samples of one global batch, in their order."""
        first = step * self.global_batch
        return self.draws(np.arange(first, first + self.global_batch))

    def draws(self, sample_number: np.ndarray) -> Draws:
        """Return the samples of any sample numbers, int64 (b,)."""
        sample_number = np.asarray(sample_number, dtype=np.int64)
        step = sample_number // self.global_batch
        point_number = self._shuffled_within_step(sample_number, step)
        piece = np.searchsorted(self._starts, step, side="right") - 1
        point = _reversed_bits(point_number, POINT_BITS) ^ self._shift
        rung = (self._thresholds[piece, 1:-1] <= point[:, None]).sum(axis=1)
        upper = _points_below(point_number, self._residues[piece, rung + 1])
        position = upper - _points_below(point_number, self._residues[piece, rung]) + self._stream_start[piece, rung]
        return Draws(sample_number, rung, self._streamed(rung, position))

    def variants(self, sample_number: np.ndarray) -> np.ndarray:
        """Return how each sample would be flipped and turned where its magnification is augmented, 0 to 7."""
        return (mix64(self._variant_key, np.asarray(sample_number)) >> np.uint64(61)).astype(np.int64)

    def position(self, step: int) -> np.ndarray:
        """Return how many samples of each rung were drawn before `step`, int64 (K,)."""
        piece = int(np.searchsorted(self._starts, step, side="right")) - 1
        points = np.full(len(self.counts) + 1, step * self.global_batch)
        return np.diff(_points_below(points, self._residues[piece])) + self._stream_start[piece]

    def _drawn_before(self, point: np.ndarray) -> np.ndarray:
        """Return how many of the points below `point`, int64 (pieces,), fall to each rung, (pieces, K)."""
        points = np.repeat(point[:, None], len(self.counts) + 1, axis=1)
        return np.diff(_points_below(points, self._residues), axis=1)

    def _streamed(self, rung: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return the samples at `position` of their rung's endless stream: epoch after epoch, each a permutation."""
        count = self.counts[rung]
        epoch, place = np.divmod(position, count)
        if self.shard_sizes is None:
            return permuted(place, count, mix64(self._epoch_keys[rung], epoch))
        index = np.empty_like(place)
        for k, e in {*zip(rung.tolist(), epoch.tolist())}:
            chosen = (rung == k) & (epoch == e)
            index[chosen] = self._by_shard(k, e, place[chosen])
        return index

    def _by_shard(self, rung: int, epoch: int, place: np.ndarray) -> np.ndarray:
        """Return what stands at `place` of an epoch that goes from shard to shard."""
        sizes = np.asarray(self.shard_sizes[rung])
        key = mix64(self._epoch_keys[rung], epoch)
        shards = np.arange(len(sizes))
        order = permuted(shards, np.full(len(sizes), len(sizes)), np.repeat(key, len(sizes)))
        ends = np.cumsum(sizes[order])
        nth = np.searchsorted(ends, place, side="right")
        shard = order[nth]
        within = permuted(place - (ends[nth] - sizes[shard]), sizes[shard], mix64(key[0], shard + 1))
        return (np.cumsum(sizes) - sizes)[shard] + within

    def _shuffled_within_step(self, sample_number: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Permute the points among the samples of a step, else neighbours (a rank's samples) would share a rung."""
        count = np.full(step.shape, self.global_batch)
        return step * self.global_batch + permuted(
            sample_number % self.global_batch, count, mix64(self._order_key, step)
        )


def permuted(place: np.ndarray, count: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return where a keyed permutation of 0..count-1 sends `place`; place and count int64 (b,), key uint64 (b,).

    A Feistel network over the bits that count needs, walked until it falls inside (Black and Rogaway, 2002): no table,
    whatever the count.
    """
    bits = np.maximum(np.ceil(np.log2(np.maximum(count, 2))), 2).astype(np.uint64)
    value, outside = place.astype(np.uint64), np.arange(len(place))
    one = np.uint64(1)
    while len(outside):
        width = [bits[outside] // np.uint64(2), bits[outside] - bits[outside] // np.uint64(2)]
        mask = [(one << w) - one for w in width]
        half, rest = value[outside] >> width[1], value[outside] & mask[1]
        for turn in range(_FEISTEL_ROUNDS):
            half, rest = rest, half ^ (mix64(key[outside] + np.uint64(turn), rest, rounds=1) & mask[turn % 2])
        value[outside] = (half << width[1]) | rest
        outside = outside[value[outside] >= count[outside].astype(np.uint64)]
    return value.astype(np.int64)


def mix64(key: np.ndarray | int, value: np.ndarray, rounds: int = 2) -> np.ndarray:
    """Return 64 pseudo-random bits for each (key, value), uint64: rounds of the SplitMix64 finaliser (Steele, 2014)."""
    x = np.atleast_1d(value).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.asarray(key).astype(np.uint64)
    for _ in range(rounds):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return x


def seeded_subset(count: int, n: int, seed: int) -> np.ndarray:
    """Return min(n, count) different numbers of 0..count-1, in rising order, the same for the same seed.

    The first n of one seeded permutation: a larger n holds the smaller one's samples.
    """
    place = np.arange(min(n, count))
    key = np.full(len(place), mix64(_stream_key(seed, "subset"), 0)[0])
    return np.sort(permuted(place, np.full(len(place), count), key))


def _stream_key(seed: int, stream: str) -> int:
    """Return the key of one named stream of draws."""
    words = np.frombuffer(stream.encode().ljust(64, b"\0")[:64], np.uint64)
    key = np.uint64(seed % (1 << 64))
    for word in words:
        key = mix64(key, word)[0]
    return int(key)


def _thresholds(probabilities: np.ndarray) -> np.ndarray:
    """Return the cumulative probabilities as integers of 2^-48, int64 (K + 1,); a zero probability has no point."""
    cumulative = np.concatenate([[0.0], np.cumsum(probabilities)])
    integers = np.rint(cumulative / cumulative[-1] * _SCALE).astype(np.int64)
    return integers


def _residues(threshold: np.ndarray, shift: int) -> np.ndarray:
    """Describe [0, threshold) as classes of point numbers: int64 (..., bits), negative where there is none.

    The interval splits into one dyadic interval for each set bit of the threshold. Point m lies in an interval of j + 1
    leading bits if the last j + 1 bits of m, reversed and shifted, are those bits: m ≡ residue modulo 2^(j + 1).
    The whole of [0, 1) is one class more, m ≡ 0 modulo 1, in a last column.
    """
    j = np.arange(POINT_BITS)
    leading = threshold[..., None] >> (POINT_BITS - 1 - j)
    interval = (leading ^ 1 ^ (shift >> (POINT_BITS - 1 - j))) & ((2 << j) - 1)
    residue = np.where(leading & 1, _reversed_bits(interval, j + 1), -1)
    everything = np.where(threshold >= _SCALE, 0, -1)
    return np.concatenate([residue, everything[..., None]], axis=-1)


def _points_below(n: np.ndarray, residues: np.ndarray) -> np.ndarray:
    """Return how many of the points 0..n-1 lie below a threshold, exactly; n int64 (...), residues (..., bits)."""
    bits = np.append(np.arange(1, POINT_BITS + 1), 0)
    members = (n[..., None] - residues + (1 << bits) - 1) >> bits
    return np.where(residues >= 0, np.maximum(members, 0), 0).sum(axis=-1)


def _reversed_bits(value: np.ndarray, width: np.ndarray | int) -> np.ndarray:
    """Reverse the lowest `width` bits of each int64."""
    x = np.asarray(value).astype(np.uint64)
    for shift, mask in (
        (1, 0x5555555555555555),
        (2, 0x3333333333333333),
        (4, 0x0F0F0F0F0F0F0F0F),
        (8, 0x00FF00FF00FF00FF),
        (16, 0x0000FFFF0000FFFF),
    ):
        s, m = np.uint64(shift), np.uint64(mask)
        x = ((x >> s) & m) | ((x & m) << s)
    x = (x >> np.uint64(32)) | (x << np.uint64(32))
    return (x >> np.asarray(64 - width).astype(np.uint64)).astype(np.int64)
