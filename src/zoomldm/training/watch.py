"""Stop a run that has failed by its loss."""

from __future__ import annotations

from zoomldm.errors import UserError


class ExplosionWatch:
    """Stop a run whose mean loss is `factor` times what the first report said."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.first: float | None = None

    def see(self, loss: float, step: int, worst: str, way_back: str) -> None:
        """Take one report's mean loss.

        Args:
            worst: label of the magnification whose loss is highest; way_back: what to do then (`Keeper.way_back`).

        Raises:
            UserError: the loss is above `factor` times the first report's.
        """
        self.first = loss if self.first is None else self.first
        if abs(loss) > self.factor * abs(self.first):
            raise UserError(
                f"step {step}: the loss is {loss:.4g}, {self.factor:g} times what it was at first ({self.first:.4g}); "
                f"worst at {worst}; {way_back}"
            )

    def state_dict(self) -> dict[str, float | None]:
        """Return what was seen."""
        return {"first": self.first}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Take back what was seen."""
        self.first = state["first"]
