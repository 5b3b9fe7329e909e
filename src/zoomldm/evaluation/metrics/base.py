"""The one interface of metrics of sets of patches."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from zoomldm.evaluation.errors import Measure, Members
from zoomldm.evaluation.result import MetricInfo, RowInfo


@dataclass(frozen=True)
class Compared:
    """What a metric may look at: one row at one magnification, in the vectors of one descriptor.

    Attributes:
        row: what the vectors are of.
        vectors: (n, d), in the order of the conditioning half.
        reference: (m, d), the reference half of the real training patches.
        pairs: (n, d), the vectors of each patch's own real patch; None where there are no pairs.
        members: the group of each vector and of each reference vector, for the jackknife over patients.
        pair_members: likewise of each patch's own real patch.
        embeddings, paired_embeddings: (n, e), the conditioning encoder's embeddings of each patch and of its own real
            patch; None where they were not made.
    """

    row: RowInfo
    vectors: np.ndarray
    reference: np.ndarray
    pairs: np.ndarray | None
    members: Members
    pair_members: np.ndarray
    embeddings: np.ndarray | None
    paired_embeddings: np.ndarray | None
    _training: Callable[[], np.ndarray]
    _held_out: Callable[[], tuple[np.ndarray, np.ndarray] | None]

    @cached_property
    def training(self) -> np.ndarray:
        """The real training patches among which the nearest is looked for; all, where there are not too many."""
        return self._training()

    @property
    def held_out(self) -> np.ndarray | None:
        """Real patches that no model saw, None where there are too few."""
        return self._held_out_and_groups[0]

    @property
    def held_out_members(self) -> np.ndarray | None:
        """The group of each of them."""
        return self._held_out_and_groups[1]

    @cached_property
    def _held_out_and_groups(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        return self._held_out() or (None, None)


class Metric(ABC):
    """Measure something of a row.

    Attributes:
        title, caption, template, section: as in ``result.MetricInfo``.
        of_judge: measured in the judging descriptor alone.
        needs_embeddings: asks for the conditioning encoder's embeddings.
    """

    title: ClassVar[str]
    caption: ClassVar[str] = ""
    template: ClassVar[str] = ""
    section: ClassVar[str] = "further"
    of_judge: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = False

    def __init__(self, *, name: str) -> None:
        self.name = name

    @abstractmethod
    def measure(self, compared: Compared) -> Measure | dict[str, Measure] | None:
        """Return a figure, several by name, or None where this row has none."""

    def named(self, compared: Compared) -> dict[str, Measure]:
        """Return the figures by the names under which a result keeps them: ``kid``, ``precision_recall.recall``."""
        found = self.measure(compared)
        if found is None:
            return {}
        if isinstance(found, Measure):
            return {self.name: found}
        return {f"{self.name}.{part}": measure for part, measure in found.items()}

    def info(self) -> MetricInfo:
        """Return what the report says of this metric."""
        return MetricInfo(
            name=self.name, title=self.title, caption=self.caption, template=self.template, section=self.section
        )
