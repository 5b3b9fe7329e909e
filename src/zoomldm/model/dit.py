"""The condition model of the later official ZoomLDM (CVPR 2025): a DiT over the summarizer's tokens; loads its weights.

It has the interface of `zoomldm.model.edm.EDM` (`model=edm_dit`) and differs in this: no patches, adaLN-Zero, a
squared-cosine schedule, raw tokens instead of standardised ones, and a second half of outputs for the variance, which
deterministic sampling doesn't use and training here doesn't train. Parameter names are the original's.
Legend: b batch, n condition tokens, d their width, e width of the transformer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.model.token_model import TokenModel

NUM_FREQUENCIES = 256


class DiT(TokenModel):
    """A DiT over raw tokens; a dropped magnification adds nothing to the timestep's embedding.

    The official model (65 tokens of 512) was trained without dropped magnifications: for its weights the guidance scale
    must be 1.

    Args:
        width, depth, heads: e, number of layers and attention heads (DiT-B: 768, 12, 12).
    """

    def __init__(
        self,
        *,
        num_rungs: int,
        num_tokens: int,
        token_dim: int,
        width: int,
        depth: int,
        heads: int,
        schedule: NoiseSchedule,
        prediction: Prediction,
    ) -> None:
        sizes = {"num_rungs": num_rungs, "num_tokens": num_tokens, "token_dim": token_dim}
        super().__init__(**sizes, schedule=schedule, prediction=prediction)
        self.width = width
        self.x_embedder = nn.Linear(token_dim, width)
        self.t_embedder = _Embedder(mlp=_mlp(NUM_FREQUENCIES, width, width, nn.SiLU()))
        self.y_embedder = _Embedder(embedding_table=nn.Embedding(num_rungs, width))
        self.register_buffer("pos_embed", sin_cos_positions(num_tokens, width)[None])
        self.blocks = nn.ModuleList([DiTBlock(width, heads) for _ in range(depth)])
        self.final_layer = FinalLayer(width, 2 * token_dim)

    def forward(self, x: Tensor, t: Tensor, rung: Tensor) -> Tensor:
        """Give `b n 2d`, what is predicted and then the variance, for noisy tokens `b n d` at timesteps t (b,)."""
        known = (rung < self.num_rungs)[:, None]
        label = self.y_embedder.embedding_table(rung.clamp(max=self.num_rungs - 1)) * known
        condition = functional.silu(self.t_embedder.mlp(timestep_frequencies(t)) + label)
        h = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            h = block(h, condition)
        return self.final_layer(h, condition)

    def predict(self, x: Tensor, t: Tensor, rung: Tensor) -> Tensor:
        return self(x, t, rung)[..., : self.token_dim]


class DiTBlock(nn.Module):
    """Self-attention and an MLP whose norms are shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = MLP(width, 4 * width)
        self.adaLN_modulation = nn.Sequential(nn.Identity(), _zero(nn.Linear(width, 6 * width)))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Transform `b n e` under the condition `b e`, to which SiLU was applied."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        h = h + gate1 * self.attn(self.norm1(h) * (1 + scale1) + shift1)
        return h + gate2 * self.mlp(self.norm2(h) * (1 + scale2) + shift2)


class FinalLayer(nn.Module):
    """The modulated norm and projection at the end."""

    def __init__(self, width: int, out_dim: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = _zero(nn.Linear(width, out_dim))
        self.adaLN_modulation = nn.Sequential(nn.Identity(), _zero(nn.Linear(width, 2 * width)))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Project `b n e` to `b n out_dim`."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm_final(h) * (1 + scale) + shift)


class Attention(nn.Module):
    """Multi-head self-attention over `b n e`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with GELU (its tanh form) between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(h), approximate="tanh"))


class _Embedder(nn.Module):
    """Hold one named layer, for the sake of the original's parameter names."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def _mlp(in_dim: int, hidden: int, out_dim: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, hidden), activation, nn.Linear(hidden, out_dim))


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def sin_cos_positions(num_positions: int, width: int) -> Tensor:
    """Embed positions by sines, then cosines, of geometrically spaced frequencies; float32 (num_positions, width)."""
    half = width // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def timestep_frequencies(t: Tensor, dim: int = NUM_FREQUENCIES) -> Tensor:
    """Embed timesteps (b,) by cosines, then sines, of geometrically spaced frequencies; float32 (b, dim)."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
