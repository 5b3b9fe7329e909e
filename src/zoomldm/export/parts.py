"""The parts of an exported ZoomLDM that diffusers has no class for; they say in their `config.json` how they are built.

Legend: n images, k tokens, d token width, S grid side, D embedding width, p patch side (px), c h w latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from zoomldm.cond.base import Conditioner, facts_of_model
from zoomldm.config import Option
from zoomldm.data.batch import GridGroup
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.runs.upgrade import option_of_today
from zoomldm.sampling.settings import scale_at
from zoomldm.stages.autoencoder import autoencoder_of
from zoomldm.stages.edm import token_model_of


class Summarizer(ModelMixin, ConfigMixin):
    """The conditioner of an exported model: grids and magnification to tokens.

    Args:
        cond: its configuration, as in ``conf/cond``; its class must be one of ours.
        tokens: their sizes, as in ``conf/model/zoomldm.yaml``.
        num_rungs: of the ladder; grid_dim: D of the encoder.
    """

    @register_to_config
    def __init__(self, cond: dict[str, Any], tokens: dict[str, Any], num_rungs: int, grid_dim: int) -> None:
        super().__init__()
        facts = facts_of_model(tokens, num_rungs=num_rungs, grid_dim=grid_dim)
        self.conditioner = Option("cond", option_of_today("cond", cond)).make(Conditioner, **facts)

    def forward(self, grids: Tensor | None, rung: Tensor) -> Tensor:
        """Give the tokens `n k d` of grids `n S S D` of one side (None where they are not used) at rungs (n,)."""
        groups = None if grids is None else [GridGroup(torch.arange(len(grids), device=grids.device), grids)]
        return self.conditioner(groups, rung)


class TokenDiffusion(ModelMixin, ConfigMixin):
    """The embedding diffusion model of an exported model, with its token statistics: magnification to tokens.

    Args:
        model: network, width, depth and num_heads, as in ``conf/model/edm.yaml``.
        schedule, solver, prediction: as in ``conf/schedule``, ``conf/solver`` and ``conf/prediction``; their classes
            must be ours. Exports that don't say what is predicted have x0.
        num_steps, guidance_scale, guidance_interval: how it is sampled; the scale may be one a rung.
        label, label_names: of a model that is told labels; here it draws without.
    """

    @register_to_config
    def __init__(
        self,
        model: dict[str, Any],
        schedule: dict[str, Any],
        solver: dict[str, Any],
        num_rungs: int,
        num_tokens: int,
        token_dim: int,
        num_steps: int = 50,
        guidance_scale: float | list[float] = 1.75,
        prediction: dict[str, Any] | None = None,
        label: dict[str, Any] | None = None,
        label_names: list[str] | None = None,
        guidance_interval: list[float] | None = None,
    ) -> None:
        super().__init__()
        sizes = {"num_rungs": num_rungs, "num_tokens": num_tokens, "token_dim": token_dim}
        network = Option("model.network", dict(model["network"]))
        diffusion = {"schedule": Option("schedule", dict(schedule)), "prediction": prediction_of(prediction, "x0")}
        labels = {"label": label and Option("label", dict(label)), "label_names": label_names or ()}
        self.edm = token_model_of(network, model, **diffusion, **sizes, **labels)
        self.solver = Option("solver", dict(solver)).make(Solver)

    @torch.no_grad()
    def forward(self, rung: Tensor, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """Draw tokens `n k d` for rungs (n,), all the same where guidance is one a rung."""
        shape = (len(rung), self.edm.num_tokens, self.edm.token_dim)
        noise = randn_tensor(shape, generator=generator, device=rung.device, dtype=torch.float32)
        return self.edm.denoise(
            noise,
            rung,
            solver=self.solver,
            num_steps=self.config.num_steps,
            guidance_scale=scale_at(self.config.guidance_scale, int(rung[0])),
            guidance_interval=self.config.guidance_interval,
            noise=lambda step: randn_tensor(shape, generator=generator, device=rung.device, dtype=torch.float32),
        )


def prediction_of(said: Mapping[str, Any] | None, otherwise: str) -> Option:
    """Return what a network predicts, with the keys that came later; ``otherwise`` in exports that don't say it."""
    return Option("prediction", option_of_today("prediction", said or {"name": otherwise}))


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """An autoencoder trained here that diffusers' VQModel cannot hold, with the one method that sampling needs.

    Args:
        model: its sizes, as in ``conf/model/autoencoder.yaml``; scaling_factor: from its latents to those diffused.
    """

    @register_to_config
    def __init__(self, model: dict[str, Any], scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.autoencoder = autoencoder_of(Option("model.network", dict(model["network"])), model)

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Quantise and decode latents `n c h w` to images `n 3 p p` in about [-1, 1]."""
        return DecoderOutput(sample=self.autoencoder.decode(latents))
