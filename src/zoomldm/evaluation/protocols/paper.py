"""The paper's protocol (3.3)."""

from zoomldm.evaluation.protocols.base import Drawn, Protocol


class Paper(Protocol):
    """As many synthetic patches at every magnification, however few real ones there are.

    Conditions are used again, with new noise, where there are fewer training patches; the reference is as many real
    training patches, all where there are fewer. The two sets of real patches overlap no more than they must.
    """

    name = "paper"
    meaning = (
        "the same number of synthetic patches at every magnification, against as many real training patches or all "
        "that there are; conditions are used again where there are fewer, with other noise"
    )

    def drawn(self, wanted: int, available: int) -> Drawn:
        num_real = min(wanted, available)
        first = min(num_real, available - num_real)
        return Drawn(num=wanted, num_conditions=num_real, num_reference=num_real, first_reference=first)
