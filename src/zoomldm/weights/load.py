"""Load original weights into this project's modules: all of them, or a message that says what does not fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoomldm.errors import WeightsError
from zoomldm.weights.layout import Dims, Family, Part, Respelt, Row, Shape, find_part
from zoomldm.weights.layout_diffusers import DIFFUSERS_UNET, DIFFUSERS_VQ
from zoomldm.weights.layout_unet import UNET
from zoomldm.weights.layout_vq import VQ
from zoomldm.weights.read import read_tensors, weight_file

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]
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
    _require_config(module, path)
    if part.missing:
        raise WeightsError(_complaint(path, part, tensors, f"{len(part.missing)} tensors are missing", part.missing))
    state, loaded, initialised, clashes = module.state_dict(), {}, {}, []
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
    if clashes:
        raise WeightsError(_complaint(path, part, tensors, f"{len(clashes)} tensors have another shape", clashes))
    if _differing(part, tensors) and not initialised:
        raise WeightsError(_complaint(path, part, tensors, "the file holds another model", []))
    fresh = set(state) - set(loaded) - set(initialised)
    if fresh:
        raise ValueError(
            f"the layout of {part.family.name} does not cover {sorted(fresh)[:3]} of {type(module).__name__}"
        )
    module.load_state_dict(loaded, strict=False)
    report = LoadReport(path, part.family.name, part.variant.name, len(loaded), initialised)
    log.log(logging.WARNING if initialised else logging.INFO, "%s", report)
    return report


def choose_part(families: Sequence[Family], dims: Dims, tensors: Tensors, path: Path) -> Part:
    """Find the part of a file that has a module's dimensions: the first spelling that is whole, else the fullest one.

    Raises:
        WeightsError: hardly anything of the families is in the file.
    """
    shapes = _shapes(tensors)
    found = [(find_part(family, variant, shapes, dims)) for family in families for variant in family.variants]
    parts = [part for part in found if part is not None and len(part.missing) < 0.75 * len(part.rows)]
    if not parts:
        raise _foreign(path, families[0], dims, shapes)
    whole = [part for part in parts if not part.missing]
    return whole[0] if whole else min(parts, key=lambda part: len(part.missing))


def dims_in_file(path: str | Path, families: Family | Sequence[Family], tensors: Tensors | None = None) -> Dims:
    """Read a family's dimensions off a file, so that a module of the right size can be built for it.

    Raises:
        WeightsError: nothing of the family in the file.
    """
    families = [families] if isinstance(families, Family) else list(families)
    shapes = _shapes(read_tensors(path) if tensors is None else tensors)
    for family in families:
        for variant in family.variants:
            dims = family.infer(Respelt(shapes, variant))
            if dims is not None:
                return dims
    raise _foreign(Path(path), families[0], None, shapes)


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
    config = vq.config
    base = config.block_out_channels[0]
    return {
        "image_channels": config.in_channels,
        "channels": base,
        "channel_mult": tuple(c // base for c in config.block_out_channels),
        "num_res_blocks": config.layers_per_block,
        "latent_channels": config.latent_channels,
        "num_codes": config.num_vq_embeddings,
        "code_dim": config.vq_embed_dim or config.latent_channels,
        "middle_attention": config.mid_block_add_attention,
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


def _complaint(path: Path, part: Part, tensors: Tensors, what: str, keys: list[str]) -> str:
    expected = {part.variant.spell(row.source): row.shape for row in part.rows}
    lines = [f"{path}: {part.family.name} ({part.variant.name}): {what}"]
    for key in keys[:5]:
        found = tuple(tensors[key].shape) if key in tensors else "nothing"
        lines.append(f"  {key}: the file has {found}, the model expects {expected[key]}")
    differing = _differing(part, tensors)
    if differing:
        lines += [f"  {name}: {a} in the file, {b} in the model" for name, (a, b) in differing.items()]
        lines.append("  build the model with the file's sizes, or take the file that belongs to this model")
    else:
        lines.append("  the file is incomplete or damaged: compare its size with the publisher's and copy it again")
    lines.append("  `python src/weights.py PATH` lists what a file holds")
    return "\n".join(lines)


def _differing(part: Part, tensors: Tensors) -> dict[str, tuple[Any, Any]]:
    """Compare the dimensions in the file with the model's: {name: (file's, model's)} where they differ."""
    there = part.family.infer(Respelt(_shapes(tensors), part.variant)) or {}
    return {key: (value, part.dims.get(key)) for key, value in there.items() if value != part.dims.get(key)}


def _foreign(path: Path, family: Family, dims: Dims | None, shapes: dict[str, Shape]) -> WeightsError:
    first = ", ".join(f"{key} {shape}" for key, shape in list(shapes.items())[:3])
    expected = ""
    if dims is not None:
        examples = [f"{family.variants[0].spell(row.source)} {row.shape}" for row in family.rows(dims)[:2]]
        expected = f"\n  expected keys such as {', '.join(examples)}"
    return WeightsError(
        f"{path}: holds no {family.name}; its first keys are {first}{expected}\n"
        "  `python src/weights.py PATH` says what the file is"
    )


def _shapes(tensors: Tensors) -> dict[str, Shape]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


_FREE_SETTINGS = frozenset(
    {"sample_size", "scaling_factor", "num_vq_embeddings", "in_channels", "out_channels", "cross_attention_dim"}
)


def _require_config(module: nn.Module, path: Path) -> None:
    """Compare a diffusers folder's config.json with the module's: heads and norms leave no trace in shapes."""
    file, own = _config_beside(path), getattr(module, "config", None)
    if file is None or own is None:
        return
    settings = json.loads(file.read_text())
    if settings.get("_class_name") not in (None, type(module).__name__):
        raise WeightsError(f"{file}: is a {settings['_class_name']}, expected a {type(module).__name__}")
    for key, value in settings.items():
        if key.startswith("_") or key in _FREE_SETTINGS or key not in own:
            continue
        if _plain(own[key]) != _plain(value):
            raise WeightsError(f"{file}: {key} is {value}, this model has {own[key]}; build it with the file's value")


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _config_beside(path: Path) -> Path | None:
    try:
        file = weight_file(path).parent / "config.json"
    except WeightsError:
        return None
    return file if file.is_file() else None
