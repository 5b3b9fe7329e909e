"""The exponential moving average of the trained weights, which is what samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from zoomldm.model.trainable import Trainable


def decay_at(num_updates: int, decay: float) -> float:
    """Return the decay of update n: min(decay, (1 + n) / (10 + n)), so that early weights are soon forgotten."""
    return min(decay, (1 + num_updates) / (10 + num_updates))


class Ema:
    """Averages of every trained parameter, in float32 beside it on its device."""

    def __init__(self, trainable: Trainable, decay: float) -> None:
        self.decay = decay
        self.names, self._weights = map(list, zip(*trainable.trained_parameters(), strict=True))
        self._averages = [weight.detach().clone().float() for weight in self._weights]

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the averages towards the weights: average ← decay·average + (1 - decay)·weight."""
        weights = [weight.detach() for weight in self._weights]
        torch._foreach_lerp_(self._averages, weights, 1.0 - decay_at(num_updates, self.decay))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in place of the weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by the name of their parameter."""
        return dict(zip(self.names, self._averages, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the averages of `state`, which may hold more."""
        for name, average in zip(self.names, self._averages, strict=True):
            average.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._weights, self._averages, strict=True):
            kept = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)
