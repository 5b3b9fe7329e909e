"""Published models as a whole: start a ZoomLDM from one, or build what an official ZoomLDM checkpoint holds.

Shown to match the original: U-Net, VQ-f4, summarizer and condition model, each alone and under weights given by a
formula (tests/test_golden.py). Not shown: the released files themselves, and sampling with all parts together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from zoomldm.cond.base import Conditioner
from zoomldm.cond.vit import ViTConditioner
from zoomldm.config import option_of
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.errors import ConfigError, WeightsError
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.dit import DiT
from zoomldm.model.unet import build_unet
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.stages.published_autoencoder import NORM_GROUPS, autoencoder_of_file
from zoomldm.weights.families import CLASS_EMBEDDING_KEY
from zoomldm.weights.layout import Respelt, find_part
from zoomldm.weights.layout_published import DIT, SUMMARIZER
from zoomldm.weights.layout_unet import UNET
from zoomldm.weights.load import (
    LoadReport,
    Tensors,
    dims_in_file,
    init_unet,
    load_family,
    load_unet,
    read_part,
)
from zoomldm.weights.read import read_tensors

DIT_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Attention heads of DiT-S, -B, -L and -XL by width; the file does not tell."""

UNET_HEADS = 1
"""Of latent diffusion's U-Net; the file does not tell this either."""


@dataclass(frozen=True)
class Published:
    """An official ZoomLDM, in evaluation mode: `model` (U-Net and summarizer), `autoencoder`, and `edm` if given.

    `encoder` names what the grids must be made with.
    """

    model: ZoomLDM
    autoencoder: Autoencoder
    edm: DiT | None
    reports: list[LoadReport]
    encoder: str = "uni"


def init_zoomldm(model: ZoomLDM, path: str | Path) -> list[LoadReport]:
    """Start a ZoomLDM from published weights: cin256-v2, an official ZoomLDM, or a diffusers U-Net.

    The U-Net is loaded (tensors whose size depends on the tokens' width may stay fresh, by name). A summarizer in the
    file goes into ``cond=vit``. The class embedding of cin256-v2 has no place as such; its last row, which stood for
    "no class", starts the null tokens where their width is the same, so guidance starts from what the U-Net knows.

    Raises:
        WeightsError: the file holds no U-Net of this size, or a summarizer that does not fit.
    """
    tensors = read_part(path, "unet")
    reports = [init_unet(model.unet, path, tensors=tensors)]
    conditioner = model.conditioner
    if isinstance(conditioner, ViTConditioner) and _holds_summarizer(tensors):
        reports.append(load_summarizer(conditioner, path, tensors=tensors))
    elif CLASS_EMBEDDING_KEY in tensors:
        reports.append(init_null_tokens(conditioner, path, tensors))
    return reports


def load_summarizer(conditioner: ViTConditioner, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Load the official transformer summarizer.

    Raises:
        WeightsError: none in the file, or of other sizes.
    """
    dims = {
        "grid_dim": conditioner.dim_reduce.in_features,
        "width": conditioner.token_dim,
        "depth": len(conditioner.encoder.layers),
        "mlp_dim": conditioner.encoder.layers[0].mlp[0].out_features,
        "num_tokens": conditioner.num_tokens,
        "num_rungs": conditioner.mag_embedding.num_embeddings,
    }
    return load_family(conditioner, SUMMARIZER, dims, path, tensors=tensors)


def init_null_tokens(conditioner: Conditioner, path: str | Path, tensors: Tensors) -> LoadReport:
    """Set every learned null token to the last row of an ImageNet class embedding ("no class")."""
    embedding = tensors[CLASS_EMBEDDING_KEY]
    report = {"path": Path(path), "family": "class embedding", "variant": CLASS_EMBEDDING_KEY}
    null = conditioner.null
    if not isinstance(null, torch.nn.Parameter):
        return LoadReport(**report, num_loaded=0, initialised={"null": "this conditioner's null tokens are zeros"})
    if embedding.shape[1] != null.shape[1]:
        why = f"the file's classes have width {embedding.shape[1]}, the tokens {null.shape[1]}"
        return LoadReport(**report, num_loaded=0, initialised={"null": why})
    with torch.no_grad():
        null.copy_(embedding[-1].expand_as(null))
    return LoadReport(**report, num_loaded=1)


def load_dit(dit: DiT, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Load the official condition model (its EMA when present).

    Raises:
        WeightsError: none in the file, or of other sizes.
    """
    dims = {
        "token_dim": dit.token_dim,
        "num_tokens": dit.num_tokens,
        "width": dit.width,
        "depth": len(dit.blocks),
        "num_rungs": dit.num_rungs,
        "frequencies": dit.t_embedder.mlp[0].in_features,
    }
    return load_family(dit, DIT, dims, path, tensors=tensors)


def load_edm_file(edm: torch.nn.Module, path: str | Path) -> LoadReport:
    """Start an embedding diffusion model from the official condition model, which only ``model=edm_dit`` can.

    Raises:
        ConfigError: another architecture. WeightsError: another file, or of other sizes.
    """
    if not isinstance(edm, DiT):
        raise ConfigError(f"model.init={path}: published condition models are DiTs; choose model=edm_dit")
    return load_dit(edm, path)


def dit_of_file(path: str | Path) -> tuple[DiT, LoadReport]:
    """Build the condition model that a file holds, of the sizes found in it."""
    tensors = read_tensors(path)
    dims = dims_in_file(path, DIT, tensors)
    if dims["width"] not in DIT_HEADS:
        raise WeightsError(f"{path}: a DiT of width {dims['width']}; expected {', '.join(map(str, DIT_HEADS))}")
    dit = DiT(
        num_rungs=dims["num_rungs"],
        num_tokens=dims["num_tokens"],
        token_dim=dims["token_dim"],
        width=dims["width"],
        depth=dims["depth"],
        heads=DIT_HEADS[dims["width"]],
        schedule=option_of("schedule", "squared_cosine").make(NoiseSchedule),
        prediction=option_of("prediction", "x0").make(Prediction),
    )
    return dit.eval(), load_dit(dit, path, tensors=tensors)


def load_published(path: str | Path, *, edm_path: str | Path | None = None, latent_px: int = 64) -> Published:
    """Build and load an official ZoomLDM checkpoint: U-Net, summarizer and autoencoder, and its condition model.

    Args:
        path: the checkpoint with all three parts.
        edm_path: the file of the condition model; without it there are no generated conditions.

    Raises:
        WeightsError: a part is missing from the file.
    """
    tensors = read_tensors(path)
    summarizer = dims_in_file(path, SUMMARIZER, tensors)
    conditioner = option_of("cond", "vit", depth=summarizer["depth"]).make(
        ViTConditioner,
        num_rungs=summarizer["num_rungs"],
        grid_dim=summarizer["grid_dim"],
        token_dim=summarizer["width"],
        mlp_dim=summarizer["mlp_dim"],
    )
    unet_dims = dims_in_file(path, UNET, tensors)
    unet = build_unet(sample_size=latent_px, num_heads=UNET_HEADS, norm_groups=NORM_GROUPS, **unet_dims)
    model = ZoomLDM(
        conditioner,
        unet,
        latent_shape=(unet_dims["in_channels"], latent_px, latent_px),
        latent_scale=1.0,
        schedule=option_of("schedule", "scaled_linear").make(NoiseSchedule),
        prediction=option_of("prediction", "eps").make(Prediction),
    )
    autoencoder, vq_report = autoencoder_of_file(path, tensors=tensors)
    reports = [
        load_unet(unet, path, tensors=tensors),
        load_summarizer(conditioner, path, tensors=tensors),
        vq_report,
    ]
    edm = None
    if edm_path is not None:
        edm, report = dit_of_file(edm_path)
        reports.append(report)
        if (edm.num_tokens, edm.token_dim) != (conditioner.num_tokens, conditioner.token_dim):
            raise WeightsError(
                f"{edm_path}: makes {edm.num_tokens}×{edm.token_dim} tokens, the summarizer of {path} "
                f"{conditioner.num_tokens}×{conditioner.token_dim}; take the condition model of the same release"
            )
    return Published(model.eval(), autoencoder.eval(), edm, reports)


def _holds_summarizer(tensors: Tensors) -> bool:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    for variant in SUMMARIZER.variants:
        dims = SUMMARIZER.infer(Respelt(shapes, variant))
        if dims is not None and find_part(SUMMARIZER, variant, shapes, dims) is not None:
            return True
    return False
