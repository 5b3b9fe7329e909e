"""What the embedding diffusion models have in common: the way from noise to a conditioner's tokens.

Legend: b batch, n condition tokens, d their width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zoomldm.diffusion.guidance import Interval, Predict, guided, timesteps_within
from zoomldm.diffusion.noise import keyed_normal
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Noise, Solver
from zoomldm.errors import ConfigError
from zoomldm.label.base import KnownLabels


class TokenModel(nn.Module, ABC):
    """Predict what makes the tokens of a magnification noisy, and sample tokens.

    Args:
        num_rungs: of the ladder.
        num_tokens, token_dim: of the conditioner whose tokens are modelled.
        prediction: what the network says of noisy tokens: the clean ones, in the paper.
        label: what it is told beside the magnification, where it is; ``predict`` then takes it (see `LabelToken`).
    """

    def __init__(
        self,
        *,
        num_rungs: int,
        num_tokens: int,
        token_dim: int,
        schedule: NoiseSchedule,
        prediction: Prediction,
        label: KnownLabels | None = None,
    ) -> None:
        super().__init__()
        self.num_rungs = num_rungs
        self.num_tokens = num_tokens
        self.token_dim = token_dim
        self.schedule = schedule
        self.prediction = prediction
        self.label = label

    def facts(self) -> dict[str, Any]:
        """Return what rebuilds it beside its configuration, as JSON values."""
        names = {} if self.label is None else {"label_names": list(self.label.names)}
        return {"num_tokens": self.num_tokens, "token_dim": self.token_dim, "num_rungs": self.num_rungs, **names}

    def told(self, asked: Any, num: int) -> Tensor:
        """Give the label that is asked for, `num (1 + f)`.

        Raises:
            ConfigError: there is no such label, or the model knows none.
        """
        if self.label is None:
            raise ConfigError(
                f"label {asked}: this EDM was told no labels; name one that was (edm=), train one with label= "
                "(docs/labels.md), or leave it out"
            )
        return torch.from_numpy(self.label.told(asked)).expand(num, -1)

    @property
    def null_rung(self) -> int:
        """The rung that stands for a dropped magnification."""
        return self.num_rungs

    @abstractmethod
    def predict(self, x: Tensor, t: Tensor, rung: Tensor) -> Tensor:
        """Give what `prediction` names, of noisy, standardised tokens `b n d` at timesteps t (b,) and rungs (b,)."""

    def predict_x0(self, x: Tensor, t: Tensor, rung: Tensor) -> Tensor:
        """Give the clean, standardised tokens `b n d` that a prediction means."""
        return self.prediction.told(self.schedule, x, self.predict(x, t, rung), t)[0]

    def standardise(self, tokens: Tensor) -> Tensor:
        """Bring tokens `b n d` of the conditioner to those that are diffused: the same, unless a subclass says else."""
        return tokens.float()

    def unstandardise(self, tokens: Tensor) -> Tensor:
        """Undo `standardise`."""
        return tokens

    def fit_statistics(self, token_batches: Iterable[Tensor]) -> None:
        """Set the statistics by which tokens are standardised: none here."""

    @torch.no_grad()
    def sample(
        self,
        rung: Tensor,
        sample_numbers: Tensor,
        *,
        seed: int,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw tokens `b n d` for rungs (b,), as the conditioner would give them.

        All noise of a sample is keyed by (seed, its number).

        Args:
            label: `b (1 + f)`, see `LabelToken`; None: no label.
        """
        x_T, noise = self.keyed_noise(seed, sample_numbers)
        guidance = {"guidance_scale": guidance_scale, "guidance_interval": guidance_interval}
        options = {"solver": solver, "num_steps": num_steps, "label": label}
        return self.denoise(x_T, rung, noise=noise, **options, **guidance)

    @torch.no_grad()
    def denoise(
        self,
        x_T: Tensor,
        rung: Tensor,
        *,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None = None,
        noise: Noise | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Follow the solver from standard noise `b n d` to tokens, as the conditioner would give them.

        Guidance is away from what the model says without magnification and label.

        Args:
            noise: fresh noise for each step of a stochastic solver.
            label: `b (1 + f)`, see `LabelToken`; None: no label.
        """

        def predict(x: Tensor, t: Tensor, told: Tensor) -> Tensor:
            times = len(x) // len(rung)
            rungs = torch.where(told, rung.repeat(times), self.null_rung)
            labels = {} if label is None else {"label": label.repeat(times, 1) * told[:, None]}
            return self.predict(x, t, rungs, **labels)

        told = torch.ones_like(rung, dtype=torch.bool)
        within = timesteps_within(guidance_interval, self.schedule.num_timesteps)
        predict_guided = guided(predict, told, ~told, guidance_scale, within=within)
        return self.follow(predict_guided, x_T, solver=solver, num_steps=num_steps, noise=noise)

    def keyed_noise(self, seed: int, sample_numbers: Tensor) -> tuple[Tensor, Noise]:
        """Return the noise `b n d` that samples begin with, and that of each step, keyed by (seed, their numbers)."""

        def noise(stream: str) -> Tensor:
            return keyed_normal(seed, sample_numbers, (self.num_tokens, self.token_dim), stream=stream)

        return noise("token sampling"), lambda step: noise(f"token sampling step {step}")

    def follow(
        self, predict: Predict, x_T: Tensor, *, solver: Solver, num_steps: int, noise: Noise | None = None
    ) -> Tensor:
        """Follow the solver from noise to tokens, as the conditioner would give them, by what `prediction` names."""
        x0 = solver.solve(predict, x_T, self.schedule, num_steps=num_steps, prediction=self.prediction, noise=noise)
        return self.unstandardise(x0)
