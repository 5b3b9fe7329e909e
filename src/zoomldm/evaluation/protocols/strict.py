"""A sounder protocol than the paper's."""

from zoomldm.evaluation.protocols.base import Drawn, Protocol


class Strict(Protocol):
    """Two disjoint halves of the real training patches: one gives the conditions, the other is the reference.

    No patch is compared with the one that it was made from, every condition is used once, and the row ``halves`` is
    what two sets of real patches make of the same numbers.
    """

    name = "strict"
    meaning = (
        "two disjoint halves of the real training patches, one for the conditions and one as the reference; no "
        "condition is used twice"
    )

    def drawn(self, wanted: int, available: int) -> Drawn:
        num = min(wanted, available // 2)
        return Drawn(num=num, num_conditions=num, num_reference=num, first_reference=num)
