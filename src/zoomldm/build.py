"""What commands and export still make from a configuration by themselves, until they ask a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoomldm.config import Option

if TYPE_CHECKING:
    from zoomldm.cond.base import Conditioner
    from zoomldm.diffusion.schedules.base import NoiseSchedule
    from zoomldm.diffusion.solvers.base import Solver
    from zoomldm.model.autoencoder import Autoencoder
    from zoomldm.model.token_model import TokenModel
    from zoomldm.model.zoomldm import ZoomLDM


def plain(node: Any) -> Any:
    """Return a configuration node as plain dicts and lists, resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def option_of(cfg: Any, group: str, allow: Sequence[str] = ()) -> Option:
    """Return the option that a configuration names for a group.

    Args:
        allow: packages besides ours whose classes may be named, from this command line.
    """
    return Option(group, plain(cfg[group]), tuple(allow))


def make_conditioner(cond: Option, tokens: Mapping[str, Any], *, num_rungs: int, grid_dim: int) -> Conditioner:
    """Build an untrained conditioner.

    Args:
        tokens: ``model.tokens``.
        num_rungs: of the ladder.
        grid_dim: width D of the encoder's embeddings, from the manifest.
    """
    from zoomldm.cond.base import Conditioner, facts_of_model

    return cond.make(Conditioner, **facts_of_model(tokens, num_rungs=num_rungs, grid_dim=grid_dim))


def schedule_of(cfg: Any, allow: Sequence[str] = ()) -> NoiseSchedule:
    """Build the noise schedule that a model learns under."""
    from zoomldm.diffusion.schedules.base import NoiseSchedule

    return option_of(cfg, "schedule", allow).make(NoiseSchedule)


def solver_of(cfg: Any, allow: Sequence[str] = ()) -> Solver:
    """Build the solver that samples are drawn with."""
    from zoomldm.diffusion.solvers.base import Solver

    return option_of(cfg, "solver", allow).make(Solver)


def make_autoencoder(model: Any) -> Autoencoder:
    """Build an untrained autoencoder from ``conf/model/autoencoder*.yaml``."""
    from zoomldm.model.autoencoder import Autoencoder

    model = plain(model)
    return Option("model.network", model["network"]).make(
        Autoencoder,
        channels=model["channels"],
        mult=tuple(model["channel_mult"]),
        num_res_blocks=model["num_res_blocks"],
        latent_channels=model["latent_channels"],
        num_codes=model["num_codes"],
        attention=model["middle_attention"],
        norm_groups=model["norm_groups"],
    )


def make_zoomldm(cfg: Any, *, num_rungs: int, grid_dim: int, latent_scale: float, allow: Sequence[str] = ()) -> ZoomLDM:
    """Build an untrained ZoomLDM."""
    from zoomldm.stages.base import stage_of

    stage = stage_of({key: plain(cfg[key]) for key in cfg if key != "hydra"}, tuple(allow))
    return stage.untrained(num_rungs=num_rungs, grid_dim=grid_dim, latent_scale=latent_scale)


def make_edm(cfg: Any, *, num_rungs: int, num_tokens: int, token_dim: int, allow: Sequence[str] = ()) -> TokenModel:
    """Build an untrained embedding diffusion model for a conditioner's tokens."""
    from zoomldm.model.token_model import TokenModel

    model = plain(cfg.model)
    sizes = {"width": model["width"], "depth": model["depth"], "heads": model["num_heads"]}
    sizes |= {"num_rungs": num_rungs, "num_tokens": num_tokens, "token_dim": token_dim}
    network = Option("model.network", model["network"], tuple(allow))
    return network.make(TokenModel, **sizes, schedule=schedule_of(cfg, allow))
