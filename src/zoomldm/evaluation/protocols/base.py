"""The one interface of an evaluation's protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn of a magnification's real training patches, in places of one random order.

    Attributes:
        num: synthetic patches a row.
        num_conditions: the first places, whose conditions they have; used again where they are fewer.
        num_reference: real patches on the other side of every comparison; ``first_reference``: the first of them.
    """

    num: int
    num_conditions: int
    num_reference: int
    first_reference: int

    @property
    def num_shared(self) -> int:
        """Return how many real patches give a condition and are in the reference as well."""
        return max(0, self.num_conditions - self.first_reference)

    @property
    def num_described(self) -> int:
        """Return how many real patches there are on either side or on both."""
        return self.first_reference + self.num_reference


class Protocol(ABC):
    """Decide how many patches are compared with how many.

    Attributes:
        name: in reports; meaning: one sentence for them.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]

    @abstractmethod
    def drawn(self, wanted: int, available: int) -> Drawn:
        """Say what is drawn where ``wanted`` patches a row are asked for and there are ``available`` real ones."""
