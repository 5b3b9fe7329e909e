"""Classifier-free guidance (Ho and Salimans, 2022) and the dropping of conditions that it needs in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
ConditionalPredict = Callable[[Tensor, Tensor, Tensor], Tensor]
Interval = tuple[float, float]
"""Parts of the noise's timesteps, from 0 (clean) to 1 (noise alone), between which there is guidance."""


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Move from the unconditional prediction towards, and past, the conditional one: 0 is without, 1 plainly with."""
    return unconditional + scale * (conditional - unconditional)


def guided(
    predict: ConditionalPredict,
    condition: Tensor,
    null_condition: Tensor,
    scale: float,
    *,
    within: Interval | None = None,
) -> Predict:
    """Turn predict(x, t, condition) into a guided predict(x, t).

    Both predictions come from one pass over the doubled batch; scales 0 and 1 need only one of them.

    Args:
        within: timesteps between which, and at which, the scale counts; outside it is 1 (Kynkäänniemi et al., 2024).
            A batch has one timestep then.
    """
    if within is not None:
        inside, outside = (guided(predict, condition, null_condition, one) for one in (scale, 1))
        return lambda x, t: inside(x, t) if within[0] <= int(t[0]) <= within[1] else outside(x, t)
    if scale == 1:
        return lambda x, t: predict(x, t, condition)
    if scale == 0:
        return lambda x, t: predict(x, t, null_condition)
    both = torch.cat([null_condition, condition])

    def predict_guided(x: Tensor, t: Tensor) -> Tensor:
        unconditional, conditional = predict(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return guide(conditional, unconditional, scale)

    return predict_guided


def timesteps_within(interval: Interval | None, num_timesteps: int) -> Interval | None:
    """Return the timesteps between which there is guidance."""
    return interval and (interval[0] * num_timesteps, interval[1] * num_timesteps)


def num_passes(scale: float) -> int:
    """Return of how many predictions ``guided`` makes one: what it costs."""
    return 1 if scale in (0, 1) else 2


def drop_condition(condition: Tensor, null_condition: Tensor, dropped: Tensor) -> Tensor:
    """Put the null condition in the place of dropped samples: conditions (b, ...), dropped bool (b,)."""
    return torch.where(dropped.reshape(-1, *[1] * (condition.ndim - 1)), null_condition.to(condition.dtype), condition)
