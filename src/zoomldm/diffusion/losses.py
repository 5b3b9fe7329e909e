"""The error of a prediction, one value a sample, so that callers can weigh and log it by magnification."""

from __future__ import annotations

from torch import Tensor


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Average the squared error over everything but the first axis: (b, ...) to float32 (b,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)
