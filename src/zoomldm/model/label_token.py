"""A label as one more token of a transformer's context.

Legend: b batch, f numbers of a label, e width of the transformer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelToken(nn.Module):
    """Linear in a label's standardised numbers, and a token of its own where there is no label."""

    mean: Tensor
    std: Tensor

    def __init__(self, num_numbers: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_numbers))
        self.register_buffer("std", torch.ones(num_numbers))
        self.known = nn.Linear(num_numbers, width)
        self.unknown = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, label: Tensor) -> Tensor:
        """Give the tokens `b 1 e` of labels `b (1 + f)`, whose first number says whether there is one."""
        numbers = (label[:, 1:] - self.mean) / self.std
        return torch.where(label[:, :1] > 0, self.known(numbers), self.unknown.to(numbers.dtype))[:, None]

    @torch.no_grad()
    def fit(self, labels: Tensor) -> None:
        """Standardise by labels float32 (m, f); a constant number keeps its scale."""
        mean, std = labels.double().mean(0), labels.double().std(0, unbiased=False)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))
