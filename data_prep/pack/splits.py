"""Train and test by patient; with a single patient, by area of the slide."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_prep.fold.area import Area
from data_prep.slides.table import SlideSpec
from data_prep.work.state import DoneSlide
from zoomldm.data.schema import TEST, TRAIN, hash_fraction
from zoomldm.errors import ConfigError

PATIENTS, AREA, NOTHING = "patients", "area", "nothing"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Who is held out: ``of_patient`` by patient, or (``held_out == "area"``) a part of every slide."""

    held_out: str
    of_patient: dict[str, str]

    def of_samples(self, state: DoneSlide, corner: np.ndarray, side: int) -> np.ndarray:
        """Return the split of each of a slide's regions, "" for those across the cut of a held-out area.

        Args:
            corner: (n, 2) y, x in tiles; ``side`` in tiles as well.
        """
        if self.held_out != AREA:
            return np.full(len(corner), self.of_patient[state.patient])
        area = Area(**state.area)
        return np.array([area.split_of(y, x, side) or "" for y, x in corner.tolist()], dtype="U5").reshape(len(corner))


def split_patients(
    specs: Iterable[SlideSpec], *, mode: str, test_fraction: float, seed: int, known: dict[str, str] | None = None
) -> Split:
    """Assign every patient to train or test.

    A split in the slide table wins, then one that a patient has already (``known``). Others are drawn in the order of a
    seeded hash of their names, at least one for each side; ``paper`` puts all in train, as the paper did.

    Raises:
        ConfigError: one patient in both splits by the table.
    """
    given: dict[str, str] = {}
    patients = set()
    for spec in specs:
        patients.add(spec.patient)
        if spec.split and given.setdefault(spec.patient, spec.split) != spec.split:
            raise ConfigError(f"patient {spec.patient}: in train and in test by the slide table; choose one")
    if mode == "paper":
        return Split(held_out=NOTHING, of_patient=dict.fromkeys(sorted(patients), TRAIN))
    if mode != PATIENTS:
        raise ConfigError(f"split={mode}: expected patients or paper")
    if len(patients) == 1 and not given:
        return Split(held_out=AREA, of_patient=dict.fromkeys(patients, TRAIN))
    drawn = sorted(patients - set(given), key=lambda name: (hash_fraction(name, f"split:{seed}:"), name))
    num_test = min(max(round(test_fraction * len(drawn)), int(TEST not in given.values())), max(0, len(drawn) - 1))
    if len(drawn) == 1 and TEST not in given.values():
        num_test = 1
    kept = {name: known[name] for name in drawn if known and name in known}
    num_test -= sum(split == TEST for split in kept.values())
    free = [name for name in drawn if name not in kept]
    chosen = given | kept | {name: TEST if i < num_test else TRAIN for i, name in enumerate(free)}
    return Split(held_out=PATIENTS, of_patient=dict(sorted(chosen.items())))
