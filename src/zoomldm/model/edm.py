"""EDM, the embedding diffusion model: a transformer that draws condition tokens for a magnification.

It predicts clean tokens (or what else `prediction` names) from noisy ones, with the magnification and the timestep as
two further tokens. Tokens are standardised by channel; statistics are part of the weights.
Legend: b batch, n condition tokens, d their width, e width of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zoomldm.cond.base import Conditioner
from zoomldm.data.batch import Batch
from zoomldm.diffusion.guidance import drop_condition
from zoomldm.diffusion.noise import keyed_dropout, keyed_normal, keyed_timesteps
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.errors import ConfigError
from zoomldm.label.base import KnownLabels, LabelTable
from zoomldm.model.label_token import LabelToken
from zoomldm.model.token_model import TokenModel
from zoomldm.model.trainable import Trainable


class EDM(TokenModel):
    """A transformer over standardised tokens.

    Args:
        width, depth, heads: e, number of layers and attention heads of the transformer.
        label: makes one more token, where the model is told labels.
    """

    token_mean: Tensor
    token_std: Tensor

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
        label: KnownLabels | None = None,
    ) -> None:
        sizes = {"num_rungs": num_rungs, "num_tokens": num_tokens, "token_dim": token_dim}
        super().__init__(**sizes, schedule=schedule, prediction=prediction, label=label)
        self.width = width
        self.register_buffer("token_mean", torch.zeros(token_dim))
        self.register_buffer("token_std", torch.ones(token_dim))
        self.input = nn.Linear(token_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        self.magnification = nn.Embedding(num_rungs + 1, width)
        self.timestep = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(
                    width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, token_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.label_token = None if label is None else LabelToken(len(label.names), width)

    def predict(self, x: Tensor, t: Tensor, rung: Tensor, label: Tensor | None = None) -> Tensor:
        """Give what `prediction` names; label: `b (1 + f)`, without it no sample has one."""
        context = torch.stack([self.magnification(rung), self._timestep(t)], dim=1)
        return self._transform(self._with_label(context, label), self.input(x) + self.position)

    def _with_label(self, context: Tensor, label: Tensor | None) -> Tensor:
        """Put the label's token behind context tokens `b k e`, where the model is told labels."""
        if self.label_token is None:
            return context
        told = context.new_zeros(len(context), 1 + len(self.label_token.mean)) if label is None else label
        return torch.cat([context, self.label_token(told.to(context.device))], dim=1)

    def _timestep(self, t: Tensor) -> Tensor:
        return self.timestep(_sinusoids(t, self.width))

    def _transform(self, context: Tensor, inputs: Tensor) -> Tensor:
        """Give `b n d` for inputs `b n e` that attend to each other and to context tokens `b k e`."""
        h = torch.cat([context, inputs], dim=1)
        for layer in self.layers:
            h = layer(h)
        return self.output(self.norm(h[:, context.shape[1] :]))

    def standardise(self, tokens: Tensor) -> Tensor:
        """Bring tokens `b n d` to mean 0 and standard deviation 1 in each channel."""
        return (tokens.float() - self.token_mean) / self.token_std

    def unstandardise(self, tokens: Tensor) -> Tensor:
        return tokens * self.token_std + self.token_mean

    def fit_labels(self, labels: Tensor) -> None:
        """Set the statistics by which labels are standardised, where their kind is, from labels float32 (m, f)."""
        if self.label_token is not None and self.label.kind.is_scaled:
            self.label_token.fit(labels)

    @torch.no_grad()
    def fit_statistics(self, token_batches: Iterable[Tensor]) -> None:
        """Set the statistics from batches of tokens `b n d`, in float64; a constant channel keeps its scale.

        Every rank must be given the same batches.
        """
        count, total, squares = 0, 0.0, 0.0
        for tokens in token_batches:
            rows = tokens.detach().double().flatten(0, 1)
            count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
        if count < 2:
            raise ValueError("statistics of tokens need at least one batch")
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.token_mean.copy_(mean)
        self.token_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))


class EDMTrainable(Trainable):
    """Train an EDM on the tokens that the frozen conditioner of a trained ZoomLDM makes of grids, on the fly.

    Raises ConfigError for a conditioner without a grid: its tokens are fixed for each magnification, so there is no
    distribution to learn.

    Args:
        drop_probability: chance that a sample trains without magnification and label.
        labels: of the data set, for an EDM that is told labels.
    """

    kind = "edm"

    def __init__(
        self,
        edm: EDM,
        conditioner: Conditioner,
        *,
        drop_probability: float = 0.1,
        labels: LabelTable | None = None,
    ) -> None:
        super().__init__()
        if not conditioner.uses_grid:
            raise ConfigError(
                f"model=edm: {type(conditioner).__name__} reads no embedding grid, so its tokens are the same for "
                "every patch of a magnification; expected a ZoomLDM run trained with cond=film, cnn or pool. "
                "Sample that run as it is, no EDM is needed"
            )
        if (edm.num_tokens, edm.token_dim) != (conditioner.num_tokens, conditioner.token_dim):
            raise ValueError(
                f"EDM of {edm.num_tokens}x{edm.token_dim} tokens over a conditioner that makes "
                f"{conditioner.num_tokens}x{conditioner.token_dim}"
            )
        self.edm = edm
        self.conditioner = conditioner.requires_grad_(False).eval()
        self.drop_probability = drop_probability
        self.labels = labels
        self.columns = ("grid",) if labels is None else ("grid", "meta")

    def train(self, mode: bool = True) -> EDMTrainable:
        super().train(mode)
        self.conditioner.eval()
        return self

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        x0 = self.edm.standardise(self.tokens(batch))
        noise = keyed_normal(seed, batch.sample_number, x0.shape[1:])
        t = keyed_timesteps(seed, batch.sample_number, self.edm.schedule.num_timesteps)
        rung, dropped = batch.rung, torch.zeros_like(batch.rung, dtype=torch.bool)
        if self.training:
            dropped = keyed_dropout(seed, batch.sample_number, self.drop_probability)
            rung = drop_condition(rung, torch.full_like(rung, self.edm.null_rung), dropped)
        label = self._told(batch, seed, dropped)
        said = self.edm.predict(self.edm.schedule.add_noise(x0, noise, t), t, rung, **label)
        return {"loss_per_sample": self.edm.prediction.loss(self.edm.schedule, said, x0, noise, t)}

    def _told(self, batch: Batch, seed: int, dropped: Tensor, children: Tensor | None = None) -> dict[str, Tensor]:
        """Give the labels that samples train with, `b (1 + f)`; nothing where the EDM is told none.

        Args:
            dropped: bool (b,), samples without a condition.
            children: bool (b,), samples that stand for a part of themselves, which has the label of the slide alone.
        """
        if self.labels is None or self.edm.label is None:
            return {}
        told = torch.from_numpy(self.labels.told(batch.meta)).to(batch.device)
        if children is not None:
            of_slides = torch.from_numpy(self.labels.told(batch.meta, of_slides=True)).to(batch.device)
            told = torch.where(children[:, None], of_slides, told)
        if self.training:
            probability = self.edm.label.kind.dropout_p
            dropped = dropped | keyed_dropout(seed, batch.sample_number, probability, stream="label")
        return {"label": told * ~dropped[:, None]}

    @torch.no_grad()
    def tokens(self, batch: Batch) -> Tensor:
        """Give the frozen conditioner's tokens `b n d`."""
        return self.conditioner(batch.grids, batch.rung)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Set the token statistics from batches of the training mix; call once before training."""
        self.edm.fit_statistics(self.tokens(batch) for batch in batches)

    def sampling_model(self) -> EDM:
        return self.edm

    def extra_state(self) -> dict[str, Any]:
        return self.edm.facts()


def _sinusoids(t: Tensor, width: int) -> Tensor:
    """Embed timesteps (b,) by cosines and sines of geometrically spaced frequencies, float32 (b, width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
