"""The control: does a patch follow its condition?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoomldm.evaluation.bench import Bench, Described
from zoomldm.evaluation.claims import Expectation
from zoomldm.evaluation.result import MAIN_ROW
from zoomldm.evaluation.rows.oracle import Oracle
from zoomldm.evaluation.rung_data import RungData
from zoomldm.evaluation.store import Chunks


class Shuffled(Oracle):
    """The oracle row's patches, each beside the reference of another patient's patch: nothing more is sampled."""

    title = "shuffled conditions"
    meaning = "synthetic, each from the condition of another patient's patch: the control"
    colour = "#dba3bd"
    is_control = True
    shows_examples = False
    expectations = (
        Expectation(
            MAIN_ROW,
            "shuffled",
            "right conditions lie below shuffled ones, each patch against its own reference",
            paired=True,
        ),
    )

    def why_not(self, bench: Bench) -> str | None:
        if bench.generator.uses_grid:
            return None
        return "the model's condition is the magnification alone, so there is nothing to shuffle"

    def chunks(self, data: RungData) -> Chunks:
        """Return the oracle row's: what is sampled for one row serves both."""
        return data.chunks(MAIN_ROW, self.depends_on(data.bench))

    def described(self, data: RungData) -> Described:
        """Describe the oracle row's patches and put each in another's place."""
        patients = np.asarray(data.patients)
        places = shuffle_among(data.patients, np.random.default_rng([data.bench.plan.seed, data.rung.index]))
        if num_same := int((patients == patients[places]).sum()):
            data.bench.notes.append(
                f"{data.rung.label}: {num_same} of {len(patients)} shuffled conditions come from another patch of the "
                "same patient, since one patient has most of the patches"
            )
        return super().described(data).in_order(np.argsort(places))


def shuffle_among(patients: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Permute so that each condition goes to a patch of another patient, as far as there are others.

    Conditions are put in a random order within each patient, patient after patient, and turned by the size of the
    largest patient. Returns the place that condition j goes to, int64 (n,).
    """
    names = np.asarray(patients)
    shuffled = rng.permutation(len(names))
    order = shuffled[np.argsort(names[shuffled], kind="stable")]
    turn = int(np.unique(names, return_counts=True)[1].max()) if len(names) else 0
    turn = turn if turn < len(names) else 1
    belongs_to = np.empty(len(names), np.int64)
    belongs_to[order] = np.roll(order, turn)
    return belongs_to
