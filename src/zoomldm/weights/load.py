"""Load original weights into this project's modules: all of them, or a message that says what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoomldm.errors import WeightsError
from zoomldm.weights.layout import Dims, Family, Part, Respelt, Row, find_part
from zoomldm.weights.layout_diffusers import DIFFUSERS_KL, DIFFUSERS_UNET, DIFFUSERS_VQ
from zoomldm.weights.layout_unet import UNET
from zoomldm.weights.layout_vq import KL, VQ
from zoomldm.weights.misfit import Tensors, complaint, differing_dims, foreign, require_config, shapes_of
from zoomldm.weights.read import read_tensors

log = logging.getLogger(__name__)

Fit = Callable[[Row, Tensor], Tensor | None]


@dataclass(frozen=True)
class LoadReport:
    """What was loaded from which file: `initialised` lists the module's keys that keep their fresh values, and why."""

    path: Path
    family: str
    variant: str
    num_loaded: int
    initialised: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.path}: {self.num_loaded} tensors of a {self.family} loaded from {self.variant}"
        if self.initialised:
            text += f"; {len(self.initialised)} initialised afresh: "
            text += ", ".join(f"{key} ({why})" for key, why in self.initialised.items())
        return text


def load_unet(unet: nn.Module, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Load a latent-diffusion checkpoint (its EMA when present) or a diffusers folder into a diffusers U-Net.

    Raises:
        WeightsError: the file is not one, or not of this U-Net's sizes.
    """
    tensors = read_part(path, "unet") if tensors is None else tensors
    return load_family(unet, (UNET, DIFFUSERS_UNET), unet_dims(unet), path, tensors=tensors)


def init_unet(unet: nn.Module, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Start a U-Net from another's weights (the paper: ImageNet's cin256-v2), for fine-tuning.

    As `load_unet`, but what depends on the width of the condition tokens or on the channels of the latent may differ:
    those tensors keep their fresh values and are named in the report and in the log.

    Raises:
        WeightsError: anything else differs.
    """

    def fresh(row: Row, tensor: Tensor) -> Tensor | None:
        free = row.target.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
        free |= row.target.startswith(("conv_in.", "conv_out."))
        return None if free else tensor

    tensors = read_part(path, "unet") if tensors is None else tensors
    return load_family(unet, (UNET, DIFFUSERS_UNET), unet_dims(unet), path, fit=fresh, tensors=tensors)


def load_vq(vq: nn.Module, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Load a latent-diffusion or taming autoencoder, codebook included, or a diffusers folder, into a `VQModel`.

    Raises:
        WeightsError: the file is not one, or not of this autoencoder's sizes.
    """
    tensors = read_part(path, "vqvae") if tensors is None else tensors
    return load_family(vq, (VQ, DIFFUSERS_VQ), vq_dims(vq), path, tensors=_today(tensors))


def load_kl(kl: nn.Module, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Load a latent-diffusion autoencoder without a codebook, or a diffusers folder, into an `AutoencoderKL`.

    Raises:
        WeightsError: the file is not one, or not of this autoencoder's sizes.
    """
    tensors = read_part(path, "vae") if tensors is None else tensors
    return load_family(kl, (KL, DIFFUSERS_KL), kl_dims(kl), path, tensors=_today(tensors))


def load_family(
    module: nn.Module,
    families: Family | Sequence[Family],
    dims: Dims,
    path: str | Path,
    *,
    fit: Fit | None = None,
    tensors: Tensors | None = None,
) -> LoadReport:
    """Load the part of a file that belongs to a family into a module, every tensor of it.

    Args:
        families: the layouts in which the part may come.
        dims: the module's dimensions, in the family's terms.
        fit: called for tensors whose shape differs and for rows to be resized; returns the tensor to load (resized, or
            as it is, which is an error) or None to keep the module's own values.
        tensors: the file's content, when it was read already.

    Raises:
        WeightsError: nothing of the family in the file, missing tensors, other shapes, values that are not finite.
    """
    path, families = Path(path), [families] if isinstance(families, Family) else list(families)
    tensors = read_tensors(path) if tensors is None else tensors
    part = choose_part(families, dims, tensors, path)
    require_config(module, path)
    if part.missing:
        raise WeightsError(complaint(path, part, tensors, f"{len(part.missing)} tensors are missing", part.missing))
    state = module.state_dict()
    loaded, initialised, clashes = _fitted(part, tensors, state, path, fit)
    if clashes:
        raise WeightsError(complaint(path, part, tensors, f"{len(clashes)} tensors have another shape", clashes))
    if differing_dims(part, tensors) and not initialised:
        raise WeightsError(complaint(path, part, tensors, "the file holds another model", []))
    fresh = set(state) - set(loaded) - set(initialised)
    if fresh:
        raise ValueError(
            f"the layout of {part.family.name} does not cover {sorted(fresh)[:3]} of {type(module).__name__}"
        )
    module.load_state_dict(loaded, strict=False)
    report = LoadReport(path, part.family.name, part.variant.name, len(loaded), initialised)
    log.log(logging.WARNING if initialised else logging.INFO, "%s", report)
    return report


def _fitted(
    part: Part, tensors: Tensors, state: Tensors, path: Path, fit: Fit | None
) -> tuple[Tensors, dict[str, str], list[str]]:
    """Return what is loaded, by the module's keys, which of them keep their values and why, and keys that clash."""
    loaded, initialised, clashes = {}, {}, []
    for row in part.rows:
        key = part.variant.spell(row.source)
        tensor, want = tensors[key], state[row.target].shape
        if row.change == "squeeze" and tuple(tensor.shape) == row.shape:
            tensor = tensor.reshape(row.target_shape)
        if fit is not None and (tensor.shape != want or row.change == "resize"):
            fitted = fit(row, tensor)
            if fitted is None:
                initialised[row.target] = f"the file has {tuple(tensor.shape)}, the model {tuple(want)}"
                continue
            tensor = fitted
        if tensor.shape != want:
            clashes.append(key)
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: {key} holds values that are not finite; compare the file with the publisher's")
        else:
            loaded[row.target] = tensor
    return loaded, initialised, clashes


def choose_part(families: Sequence[Family], dims: Dims, tensors: Tensors, path: Path) -> Part:
    """Find the part of a file that has a module's dimensions: the first spelling that is whole, else the fullest one.

    Raises:
        WeightsError: hardly anything of the families is in the file.
    """
    shapes = shapes_of(tensors)
    found = [(find_part(family, variant, shapes, dims)) for family in families for variant in family.variants]
    parts = [part for part in found if part is not None and len(part.missing) < 0.75 * len(part.rows)]
    if not parts:
        raise foreign(path, families[0], dims, shapes)
    whole = [part for part in parts if not part.missing]
    return whole[0] if whole else min(parts, key=lambda part: len(part.missing))


def dims_in_file(path: str | Path, families: Family | Sequence[Family], tensors: Tensors | None = None) -> Dims:
    """Read a family's dimensions off a file, so that a module of the right size can be built for it.

    Raises:
        WeightsError: nothing of the family in the file.
    """
    families = [families] if isinstance(families, Family) else list(families)
    shapes = shapes_of(read_tensors(path) if tensors is None else tensors)
    for family in families:
        for variant in family.variants:
            dims = family.infer(Respelt(shapes, variant))
            if dims is not None:
                return dims
    raise foreign(Path(path), families[0], None, shapes)


def unet_dims(unet: Any) -> Dims:
    """Give the dimensions of a diffusers U-Net that `build_unet` made."""
    config = unet.config
    base = config.block_out_channels[0]
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "model_channels": base,
        "channel_mult": tuple(c // base for c in config.block_out_channels),
        "num_res_blocks": config.layers_per_block,
        "attention": tuple("CrossAttn" in kind for kind in config.down_block_types),
        "context_dim": config.cross_attention_dim,
        "transformer_depth": config.transformer_layers_per_block,
    }


def vq_dims(vq: Any) -> Dims:
    """Give the dimensions of a diffusers `VQModel`."""
    code_dim = vq.config.vq_embed_dim or vq.config.latent_channels
    return kl_dims(vq) | {"num_codes": vq.config.num_vq_embeddings, "code_dim": code_dim}


def kl_dims(kl: Any) -> Dims:
    """Give the dimensions of a diffusers `AutoencoderKL`."""
    config = kl.config
    base = config.block_out_channels[0]
    return {
        "image_channels": config.in_channels,
        "channels": base,
        "channel_mult": tuple(c // base for c in config.block_out_channels),
        "num_res_blocks": config.layers_per_block,
        "latent_channels": config.latent_channels,
        "middle_attention": config.mid_block_add_attention,
        "attending_levels": (),
    }


def read_part(path: str | Path, name: str) -> Tensors:
    """Read a weight file, or ``path/name`` where the folder of a whole diffusers pipeline was given."""
    inner = Path(path).expanduser() / name
    return read_tensors(inner if inner.is_dir() else path)


def _today(tensors: Tensors) -> Tensors:
    """Rename the attention of autoencoders that diffusers saved before 0.12."""
    names = ((".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0."))
    renamed = {}
    for key, tensor in tensors.items():
        for old, new in names:
            key = key.replace(old, new) if "mid_block.attentions" in key else key
        renamed[key] = tensor
    return renamed
