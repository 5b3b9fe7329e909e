"""`film`: the paper's summarizer, a CNN modulated by magnification (FiLM, Perez et al., 2018).

Legend: b batch, c channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from zoomldm.cond.cnn import CNNConditioner, ResidualBlock


class FiLMBlock(ResidualBlock):
    """A residual block whose two normalised activations are scaled and shifted, channel by channel.

    Scale and shift are a linear function of the magnification embedding; it starts at zero: scale 1, shift 0.
    """

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int) -> None:
        super().__init__(in_channels, out_channels)
        self.film = nn.ModuleList([nn.Linear(embedding_dim, 2 * out_channels) for _ in range(2)])
        for layer in self.film:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def modulate(self, place: int, h: Tensor, magnification: Tensor | None) -> Tensor:
        scale, shift = rearrange(self.film[place](magnification), "b (two c) -> two b c 1 1", two=2)
        return h * (1 + scale) + shift


class FiLMConditioner(CNNConditioner):
    """The summarizer CNN told of the magnification by a learned embedding of each rung."""

    def __init__(self, *, num_rungs: int, embedding_dim: int = 128, **sizes: Any) -> None:
        self.embedding_dim, self.is_told = embedding_dim, True
        super().__init__(**sizes)
        self.num_rungs = num_rungs
        self.magnification = nn.Embedding(num_rungs, embedding_dim)
        # Unit length: Adam moves scale and shift by about the rate times the sum of |entries| a step. Of unit entries
        # that is 0.2 at the tiny model's rate, and the magnification drowns the embeddings before they are heard.
        nn.init.normal_(self.magnification.weight, std=embedding_dim**-0.5)

    def make_block(self, in_channels: int, out_channels: int) -> FiLMBlock:
        return FiLMBlock(in_channels, out_channels, self.embedding_dim)

    def embed_magnification(self, rung: Tensor) -> Tensor:
        told = self.magnification(rung)
        return told if self.is_told else torch.zeros_like(told)

    @contextmanager
    def untold(self) -> Iterator[None]:
        """Give tokens without the magnification's embedding while the block runs: zeros in its place."""
        self.is_told = False
        try:
            yield
        finally:
            self.is_told = True
