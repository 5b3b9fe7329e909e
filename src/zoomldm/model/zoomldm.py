"""ZoomLDM: one U-Net for all magnifications, conditioned through cross-attention and trained with its conditioner.

Legend: b batch, c h w latent, n condition tokens, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoomldm.cond.base import Conditioner
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.data.pixels import to_float
from zoomldm.diffusion.guidance import Interval, drop_condition, guided, num_passes, timesteps_within
from zoomldm.diffusion.noise import keyed_dropout, keyed_normal, keyed_timesteps
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Noise, Solver
from zoomldm.model.parent import ParentInput
from zoomldm.model.trainable import Trainable


class ZoomLDM(Trainable):
    """Predict what makes scaled latents noisy from tokens that the conditioner makes of grid and magnification.

    Args:
        conditioner: its token_dim must be the U-Net's context width.
        unet: called as unet(x, t, encoder_hidden_states=tokens).sample (see zoomldm.model.unet).
        latent_shape: (c, h, w).
        latent_scale: factor from the autoencoder's latents to those that are diffused: 1 / std on train, or 1.0 for
            the original autoencoder.
        prediction: what the network says of a noisy latent: its noise, in the paper.
        drop_probability: chance that a sample trains with the null tokens; validation drops none.
        told_planes: inputs of the U-Net beside the latent, for the level above; 0: it cannot be told.
        parent: how training samples are told it; validation is without. None: never.
    """

    kind = "zoomldm"
    compiled_parts = ("unet",)

    def __init__(
        self,
        conditioner: Conditioner,
        unet: nn.Module,
        *,
        latent_shape: Sequence[int],
        latent_scale: float,
        schedule: NoiseSchedule,
        prediction: Prediction,
        drop_probability: float = 0.1,
        told_planes: int = 0,
        parent: ParentInput | None = None,
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.unet = unet
        self.schedule = schedule
        self.prediction = prediction
        self.latent_shape = tuple(latent_shape)
        self.latent_scale = float(latent_scale)
        self.told_planes, self.parent = told_planes, parent
        self.keeps_conditioner = False
        self.drop_probability = drop_probability if conditioner.uses_condition else 0.0
        if conditioner.uses_condition and not drop_probability and isinstance(conditioner.null, nn.Parameter):
            conditioner.null.requires_grad_(False)  # never seen: several processes would wait for its gradient
        self.columns = columns_of(uses_grid=conditioner.uses_grid, told_parents=parent is not None)

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        x0 = batch.latent.float() * self.latent_scale
        noise = keyed_normal(seed, batch.sample_number, self.latent_shape)
        t = keyed_timesteps(seed, batch.sample_number, self.schedule.num_timesteps)
        tokens = self.tokens(batch.grids, batch.rung)
        told = None
        if self.parent and self.training:
            images = to_float(batch.image)
            told, tokens = self.parent.of_training(images, tokens, batch.sample_number, seed, side=x0.shape[-1])
        if self.drop_probability and self.training:
            dropped = keyed_dropout(seed, batch.sample_number, self.drop_probability)
            tokens = drop_condition(tokens, self.conditioner.null_tokens(len(tokens)), dropped)
        said = self.predict(self.schedule.add_noise(x0, noise, t), t, tokens, told)
        return {"loss_per_sample": self.prediction.loss(self.schedule, said, x0, noise, t)}

    def keep_conditioner(self) -> None:
        """Train the U-Net alone from now on; tokens stay what they are, to the last bit."""
        self.conditioner.requires_grad_(False)
        self.keeps_conditioner = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.keeps_conditioner:
            self.conditioner.eval()
        return self

    @property
    def statistics_columns(self) -> tuple[str, ...]:
        return ("grid",)

    def measure_statistics(self, batch: Batch) -> None:
        self.tokens(batch.grids, batch.rung)

    def tokens(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        """Give the condition tokens `b n d`."""
        return self.conditioner(grids, rung)

    def predict(self, x: Tensor, t: Tensor, tokens: Tensor, told: Tensor | None = None) -> Tensor:
        """Give what the network says of x `b c h w` at timesteps t (b,): what `prediction` names.

        Args:
            told: of the level above, `b k h w` (`zoomldm.model.parent.planes`); None: nothing.
        """
        if self.told_planes:
            none = x.new_zeros(len(x), self.told_planes, *x.shape[2:])
            x = torch.cat([x, none if told is None else told.to(x.dtype)], dim=1)
        return self.unet(x, t, encoder_hidden_states=tokens).sample

    @torch.no_grad()
    def sample(
        self,
        tokens: Tensor,
        sample_numbers: Tensor,
        *,
        seed: int,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None = None,
    ) -> Tensor:
        """Draw latents `b c h w`, unscaled: what the autoencoder decodes.

        All noise of a sample is keyed by (seed, its number), so that a sample does not depend on the batch it is drawn
        in.
        """

        def noise(stream: str) -> Tensor:
            return keyed_normal(seed, sample_numbers, self.latent_shape, stream=stream)

        return self.denoise(
            noise("sampling"),
            tokens,
            solver=solver,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            noise=lambda step: noise(f"sampling step {step}"),
        )

    @torch.no_grad()
    def denoise(
        self,
        x_T: Tensor,
        tokens: Tensor,
        *,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """Follow the solver from standard noise `b c h w` to latents, unscaled, under tokens `b n d`.

        Without a condition there is one pass a step and guidance means nothing.

        Args:
            noise: fresh noise for each step of a stochastic solver.
        """
        null = self.conditioner.null_tokens(len(tokens))
        within = timesteps_within(guidance_interval, self.schedule.num_timesteps)
        predict = guided(self.predict, tokens, null.to(tokens.dtype), self._scale(guidance_scale), within=within)
        options = {"num_steps": num_steps, "prediction": self.prediction, "noise": noise}
        return solver.solve(predict, x_T, self.schedule, **options) / self.latent_scale

    def passes(self, guidance_scale: float) -> int:
        return num_passes(self._scale(guidance_scale))

    def _scale(self, guidance_scale: float) -> float:
        return guidance_scale if self.conditioner.uses_condition else 1.0

    def extra_state(self) -> dict[str, Any]:
        return {
            "latent_scale": self.latent_scale,
            "latent_shape": list(self.latent_shape),
            "num_tokens": self.conditioner.num_tokens,
            "token_dim": self.conditioner.token_dim,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        super().load_extra_state(state)
        self.latent_scale = float(state["latent_scale"])


def columns_of(*, uses_grid: bool, told_parents: bool) -> tuple[str, ...]:
    """Return the columns of a data set that a ZoomLDM is trained on."""
    return (*(("image",) if told_parents else ()), "latent", *(("grid",) if uses_grid else ()))
