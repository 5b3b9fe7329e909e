"""Run folders as training leaves them, with random weights, for what stands on trained models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from tests.helpers.toy_data import make_toy_data
from zoomldm import composing
from zoomldm.commands.check import stage_in
from zoomldm.commands.job import plain
from zoomldm.runs.checkpoint import CheckpointInfo, Checkpoints
from zoomldm.runs.run import Run

PLAIN_NETWORK = "model.network._target_=zoomldm.model.autoencoder.VQAutoencoder"


def compose(name: str, root: Path, *words: str) -> DictConfig:
    """Compose the configuration of one job under a root."""
    tracked = [] if name in ("sample", "app", "slide") else ["tracking=none"]
    (cfg,) = composing.compose_jobs(name, [f"paths.root={root}", *tracked, *words])
    return cfg


def save(root: Path, cfg: DictConfig, kind: str, module: torch.nn.Module, extra_state: dict[str, Any]) -> None:
    """Keep a module as training would, in the run that a configuration names."""
    config = {key: plain(cfg[key]) for key in cfg if key != "hydra"}
    run = Run.open(root / "runs", cfg.run_name, config, kind=kind)
    info = CheckpointInfo(kind=kind, step=10, extra_state=extra_state)
    Checkpoints(run.folder / "checkpoints").save(info, {}, module.state_dict())


def make_toy_runs(root: Path, *, dim: int = 24, encoder: str = "stats", words: tuple[str, ...] = ()) -> Path:
    """Make a data set of two magnifications and the runs ``ae``, ``zoom`` and ``edm``, of random weights.

    Args:
        dim, encoder: of the grids; ``words``: of the configuration of all runs.
    """
    manifest = make_toy_data(root / "data" / "demo", train=(60, 24), test=(20, 4), patch_px=32, dim=dim, latent_px=8)
    manifest.encoder = replace(manifest.encoder, name=encoder)
    manifest.save(root / "data" / "demo")
    ladder = ["data.ladder.num_rungs=2", "model.latent_channels=3", *words]
    torch.manual_seed(0)
    cfg = compose(
        "train",
        root,
        "model=autoencoder_vq_tiny",
        "run_name=ae",
        "model.channels=32",
        PLAIN_NETWORK,
        *ladder,
    )
    save(root, cfg, "autoencoder", stage_in(cfg).untrained(), {})
    cfg = compose(
        "train", root, "model=zoomldm_tiny", "run_name=zoom", "autoencoder.run=ae", "unet.model_channels=32", *ladder
    )
    model = stage_in(cfg).untrained(num_rungs=2, grid_dim=manifest.encoder.dim, latent_scale=1.0)
    save(root, cfg, "zoomldm", model, model.extra_state())
    make_toy_edm(root, "edm", (), *ladder, sizes=(model.conditioner.num_tokens, model.conditioner.token_dim))
    return root


def make_toy_edm(
    root: Path,
    name: str,
    label_names: tuple[str, ...],
    *words: str,
    sizes: tuple[int, int] = (16, 128),
    model: str = "edm_tiny",
) -> None:
    """Make a further embedding diffusion model of the run ``zoom``.

    Args:
        label_names: of the labels that it is told; ``sizes``: number and width of the conditioner's tokens.
    """
    of_all = [f"model={model}", f"run_name={name}", "zoomldm.run=zoom", "model.width=32", "model.depth=1"]
    cfg = compose("train", root, *of_all, "data.ladder.num_rungs=2", "model.latent_channels=3", *words)
    edm = stage_in(cfg).untrained(num_rungs=2, num_tokens=sizes[0], token_dim=sizes[1], label_names=label_names)
    if label_names:
        torch.nn.init.normal_(edm.output.weight, std=0.5)  # which begins at zero, whatever the label
    save(root, cfg, "edm", edm, edm.facts())
