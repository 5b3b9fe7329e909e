"""The demo's patients: how each one's tissue is composed, spread evenly over what there is."""

from dataclasses import dataclass

import numpy as np

MPP = 0.5
UM = 1 / MPP  # pixels in a micrometre


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Say how one patient's tissue is composed; fractions of the tissue's area, the rest 0..1 unless named."""

    seed: int
    number: int
    fat: float
    tumour: float
    lobules_per_mm2: float
    ducts_per_mm2: float
    in_situ: float  # share of ducts that hold carcinoma in situ
    grade: float
    tubules: float  # share of the tumour that forms tubules
    lymphoid: float
    necrosis: float
    collagen: float

    def generator(self, stream: int) -> np.random.Generator:
        """Return the generator of one of the patient's streams of random numbers."""
        return np.random.default_rng([self.seed, self.number, stream])


def spread_draws(seed: int, number: int, count: int, stream: int) -> np.ndarray:
    """Return ``count`` values in 0..1 that fill the range evenly over the patients (Roberts' additive recurrence).

    The first patients already differ, and no value depends on how many there are.
    """
    start = np.random.default_rng([seed, stream]).random(count)
    root = 1.5
    for _ in range(60):
        root = (1 + root) ** (1 / (count + 1))
    return (start + number * root ** -np.arange(1.0, count + 1)) % 1


def draw_patient(seed: int, number: int) -> Patient:
    """Draw the composition of patient ``number`` (1, 2, ...)."""
    first, second = spread_draws(seed, number, 3, stream=1), spread_draws(seed, number, 7, stream=2)
    return Patient(
        seed=seed,
        number=number,
        tumour=float(max(0.0, first[0] - 0.22) * 0.75),
        fat=float(0.06 + 0.5 * first[1] ** 1.3),
        lobules_per_mm2=float(0.3 + 1.7 * first[2]),
        ducts_per_mm2=float(0.4 + 1.1 * second[0]),
        in_situ=float(max(0.0, second[1] - 0.35) * 1.2),
        grade=float(second[2]),
        tubules=float((1 - second[2]) * second[3]),
        lymphoid=float(second[4]),
        necrosis=float(max(0.0, second[2] - 0.4) * 1.4),
        collagen=float(second[5]),
    )
