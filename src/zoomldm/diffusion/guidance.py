"""Classifier-free guidance (Ho and Salimans, 2022) and the dropping of conditions that it needs in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
ConditionalPredict = Callable[[Tensor, Tensor, Tensor], Tensor]


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Move from the unconditional prediction towards, and past, the conditional one: 0 is without, 1 plainly with."""
    return unconditional + scale * (conditional - unconditional)


def guided(predict: ConditionalPredict, condition: Tensor, null_condition: Tensor, scale: float) -> Predict:
    """Turn predict(x, t, condition) into a guided predict(x, t).

    Both predictions come from one pass over the doubled batch; scales 0 and 1 need only one of them.
    """
    if scale == 1:
        return lambda x, t: predict(x, t, condition)
    if scale == 0:
        return lambda x, t: predict(x, t, null_condition)
    both = torch.cat([null_condition, condition])

    def predict_guided(x: Tensor, t: Tensor) -> Tensor:
        unconditional, conditional = predict(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return guide(conditional, unconditional, scale)

    return predict_guided


def num_passes(scale: float) -> int:
    """Return of how many predictions ``guided`` makes one: what it costs."""
    return 1 if scale in (0, 1) else 2


def drop_condition(condition: Tensor, null_condition: Tensor, dropped: Tensor) -> Tensor:
    """Put the null condition in the place of dropped samples: conditions (b, ...), dropped bool (b,)."""
    return torch.where(dropped.reshape(-1, *[1] * (condition.ndim - 1)), null_condition.to(condition.dtype), condition)
