"""Train and test by patient; with a single patient, by area of the slide."""

from collections.abc import Iterable
from dataclasses import dataclass

from data_prep.slides.table import SlideSpec
from zoomldm.data.schema import hash_fraction
from zoomldm.errors import ConfigError

PATIENTS, AREA, NOTHING = "patients", "area", "nothing"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Who is held out: ``of_patient`` by patient, or (``held_out == "area"``) a part of every slide."""

    held_out: str
    of_patient: dict[str, str]


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
        return Split(held_out=NOTHING, of_patient=dict.fromkeys(sorted(patients), "train"))
    if mode != PATIENTS:
        raise ConfigError(f"split={mode}: expected patients or paper")
    if len(patients) == 1 and not given:
        return Split(held_out=AREA, of_patient=dict.fromkeys(patients, "train"))
    drawn = sorted(patients - set(given), key=lambda name: (hash_fraction(name, f"split:{seed}:"), name))
    num_test = min(max(round(test_fraction * len(drawn)), int("test" not in given.values())), max(0, len(drawn) - 1))
    if len(drawn) == 1 and "test" not in given.values():
        num_test = 1
    kept = {name: known[name] for name in drawn if known and name in known}
    num_test -= sum(split == "test" for split in kept.values())
    free = [name for name in drawn if name not in kept]
    chosen = given | kept | {name: "test" if i < num_test else "train" for i, name in enumerate(free)}
    return Split(held_out=PATIENTS, of_patient=dict(sorted(chosen.items())))
