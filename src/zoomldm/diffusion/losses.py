"""Diffusion losses, one value a sample, so that callers can weigh and log them by magnification."""

from __future__ import annotations

from torch import Tensor


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Average the squared error over everything but the first axis: (b, ...) to float32 (b,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def eps_loss(predicted_eps: Tensor, noise: Tensor) -> Tensor:
    """Give the loss of a model that predicts the noise (b,)."""
    return squared_error(predicted_eps, noise)


def x0_loss(predicted_x0: Tensor, x0: Tensor) -> Tensor:
    """Give the loss of a model that predicts the clean signal (b,)."""
    return squared_error(predicted_x0, x0)
