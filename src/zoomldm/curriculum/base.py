"""Which magnification the next sample comes from: p(magnification | step).

A curriculum is piecewise constant: `changes` lists the steps at which the probabilities change, so that the loader can
count in closed form how often each magnification was drawn before any step (data/sequence.py).
Arrays have one entry a rung of the ladder, K in all; a magnification without samples has probability 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoomldm.errors import ConfigError, near_match
from zoomldm.ladder import Ladder


class Curriculum:
    """Base of all curricula.

    counts: training patches a magnification, (K,); zero where there is none.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        if not (self.counts > 0).any():
            raise ConfigError("no magnification has a training sample; look at counts.train in the manifest.json")

    @property
    def changes(self) -> tuple[int, ...]:
        """Steps at which the probabilities change, ascending, the first of them 0."""
        return (0,)

    def weights(self, step: int) -> np.ndarray:
        """Return how much each magnification counts at `step`, (K,), not normalised."""
        raise NotImplementedError

    def probabilities(self, step: int) -> np.ndarray:
        """Return p(magnification | step), float64 (K,), over the magnifications that have samples."""
        weights = np.where(self.counts > 0, np.asarray(self.weights(step), dtype=np.float64), 0.0)
        total = weights.sum()
        if not total > 0:
            raise ConfigError(f"curriculum: at step {step} every magnification with samples has weight 0")
        return weights / total

    def samples_until(self, step: int, global_batch: int) -> np.ndarray:
        """Return the expected number of samples of each magnification in steps [0, step), float64 (K,)."""
        starts = [s for s in self.changes if s < step]
        lengths = np.diff([*starts, step])
        return global_batch * sum(
            (length * self.probabilities(start) for start, length in zip(starts, lengths)), np.zeros(len(self.counts))
        )


class Uniform(Curriculum):
    """Every magnification as often as another (each image of a batch draws its own)."""

    def weights(self, step: int) -> np.ndarray:
        return np.ones(len(self.counts))


class Tempered(Curriculum):
    """p ∝ counts^temperature: 0 is uniform, 1 proportional to the number of patches."""

    def __init__(self, counts: Sequence[int] | np.ndarray, *, temperature: float) -> None:
        super().__init__(counts)
        if not 0 <= temperature <= 1:
            raise ConfigError(f"curriculum.temperature={temperature}: expected a number from 0 (uniform) to 1")
        self.temperature = temperature

    def weights(self, step: int) -> np.ndarray:
        return np.maximum(self.counts, 1) ** float(self.temperature)


class Proportional(Tempered):
    """p ∝ counts: every patch of the data set as often as another."""

    def __init__(self, counts: Sequence[int] | np.ndarray) -> None:
        super().__init__(counts, temperature=1.0)


class CoarseToFine(Curriculum):
    """Begin with low magnifications and end uniform: p ∝ exp(tilt(step)·k/(K-1)), tilt falling from `tilt` to 0.

    The tilt falls linearly over the first `fraction` of `steps`, in `num_stages` stages of constant probabilities.
    """

    direction = 1.0

    def __init__(
        self,
        counts: Sequence[int] | np.ndarray,
        *,
        steps: int,
        fraction: float = 0.5,
        tilt: float = 4.0,
        num_stages: int = 20,
    ) -> None:
        super().__init__(counts)
        if not 0 < fraction <= 1 or num_stages < 1 or steps < 1:
            raise ConfigError(
                f"curriculum: steps={steps}, fraction={fraction}, num_stages={num_stages}; expected at least one step, "
                "a fraction above 0 and at most 1, and at least one stage"
            )
        self.tilt = tilt
        self.stage_starts = sorted({round(i * fraction * steps / num_stages) for i in range(num_stages + 1)})

    @property
    def changes(self) -> tuple[int, ...]:
        return tuple(self.stage_starts)

    def weights(self, step: int) -> np.ndarray:
        stage = int(np.searchsorted(self.stage_starts, step, side="right")) - 1
        remaining = 1.0 - stage / max(len(self.stage_starts) - 1, 1)
        rung = np.linspace(0.0, 1.0, len(self.counts)) if len(self.counts) > 1 else np.zeros(1)
        return np.exp(self.direction * self.tilt * remaining * rung)


class FineToCoarse(CoarseToFine):
    """Begin with high magnifications and end uniform: the mirror image of `CoarseToFine`."""

    direction = -1.0


class Schedule(Curriculum):
    """Stages given by the user: each `{from_step, weights: {magnification: weight}}`, constant until the next."""

    def __init__(self, counts: Sequence[int] | np.ndarray, *, ladder: Ladder, stages: Sequence[Mapping]) -> None:
        super().__init__(counts)
        if not stages:
            raise ConfigError("curriculum.stages is empty; expected a list of {from_step: 0, weights: {20: 1, 10: 2}}")
        self.starts, self.table = [], []
        for stage in stages:
            row = np.zeros(len(self.counts))
            for magnification, weight in stage["weights"].items():
                if not weight >= 0:
                    raise ConfigError(f"curriculum.stages: weight of {magnification} is {weight}; expected 0 or more")
                row[ladder.rung_of(magnification).index] = weight
            self.starts.append(int(stage["from_step"]))
            self.table.append(row)
        if self.starts[0] != 0 or any(b <= a for a, b in zip(self.starts, self.starts[1:])):
            raise ConfigError(f"curriculum.stages: from_step is {self.starts}; expected 0 first, then rising steps")
        for start in self.starts:
            self.probabilities(start)

    @property
    def changes(self) -> tuple[int, ...]:
        return tuple(self.starts)

    def weights(self, step: int) -> np.ndarray:
        return self.table[int(np.searchsorted(self.starts, step, side="right")) - 1]


class Single(Curriculum):
    """One magnification only: the standalone baselines of the paper's Table 1."""

    def __init__(self, counts: Sequence[int] | np.ndarray, *, rung: int) -> None:
        super().__init__(counts)
        self.rung = rung
        if self.counts[rung] == 0:
            available = ", ".join(str(k) for k in np.flatnonzero(self.counts))
            raise ConfigError(
                f"training=single: rung {rung} of the ladder has no training sample (rungs {available} do)"
            )

    def weights(self, step: int) -> np.ndarray:
        return np.eye(len(self.counts))[self.rung]


CURRICULA: dict[str, type[Curriculum]] = {
    "uniform": Uniform,
    "proportional": Proportional,
    "tempered": Tempered,
    "coarse_to_fine": CoarseToFine,
    "fine_to_coarse": FineToCoarse,
    "schedule": Schedule,
}


def make_curriculum(name: str, *, counts: Sequence[int] | np.ndarray, ladder: Ladder, **parameters) -> Curriculum:
    """Build the curriculum of conf/curriculum/<name>.yaml from its parameters.

    Raises:
        ConfigError: no such curriculum, or parameters that make no sense.
    """
    if name not in CURRICULA:
        raise ConfigError(f"curriculum={name}: expected one of {', '.join(CURRICULA)};{near_match(name, CURRICULA)}")
    if name == "schedule":
        parameters["ladder"] = ladder
    try:
        return CURRICULA[name](counts, **parameters)
    except TypeError as error:
        raise ConfigError(f"curriculum={name}: {str(error).split('.')[-1]}") from error


def make_single(magnification: float, *, counts: Sequence[int] | np.ndarray, ladder: Ladder) -> Single:
    """Build the one-hot curriculum of training=single.

    Raises:
        ConfigError: the magnification is not on the ladder or has no samples; the message lists those that have.
    """
    rung = ladder.rung_of(magnification)
    if counts[rung.index] == 0:
        available = ", ".join(f"{ladder[k].magnification:g}" for k in np.flatnonzero(np.asarray(counts)))
        raise ConfigError(
            f"training.magnification={magnification:g}: no training sample; those with samples: {available}"
        )
    return Single(counts, rung=rung.index)


def steps_matched_by_samples(unified: Curriculum, steps: int, rung: int) -> int:
    """Return the steps after which a single run has seen as many samples of `rung` as `unified` in `steps` steps."""
    return max(1, round(float(unified.samples_until(steps, 1)[rung])))
