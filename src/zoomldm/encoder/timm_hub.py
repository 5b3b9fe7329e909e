"""Pathology encoders published for timm or transformers, from a local folder: one adapter, one YAML for each.

UNI, UNI2-h, Virchow2, H-optimus-0, Phikon-v2 and DINOv2 are vision transformers of the DINOv2 kind. The YAML says how
the network is built, which tokens make the vector, and what the network was trained on; the folder is what the
publisher's page offers (model.safetensors or pytorch_model.bin). Parity with the publishers' outputs is not shown: no
weights or reference vectors were at hand.
Legend: n tiles, p patch tokens, d width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.layers import SwiGLUPacked, resample_abs_pos_embed
from torch import Tensor, nn

from zoomldm.encoder.vision import VisionEncoder, weights_of
from zoomldm.errors import ConfigError, WeightsError
from zoomldm.weights.read import read_tensors

Pooling = Literal["class", "mean", "class_and_mean"]


class HubEncoder(VisionEncoder):
    """A published vision transformer from a folder or a weight file; its recipe is its YAML in ``conf/encoder``.

    Args:
        weights: the publisher's folder, or the weight file in it. The download, which some publishers tie to a licence,
            is the user's (docs/weights.md).
        architecture, arguments: as `timm.create_model` takes them.
        swiglu: the gated MLP of DINOv2's larger models in the place of the plain one.
        pooling: the class token, the mean of the patch tokens, or both joined (Virchow2).
        dim: width of the vector that `pooling` makes.
        mean, std: of the channels, for values in 0..1.

    Raises:
        ConfigError: no weights are named, or the network makes vectors of another width.
        WeightsError: the weights are missing or are another network's.
    """

    def __init__(
        self,
        *,
        name: str,
        weights: str | Path | None,
        architecture: str,
        arguments: Mapping[str, Any],
        swiglu: bool,
        pooling: Pooling,
        dim: int,
        input_px: int,
        fit: Literal["resize", "crop"],
        mean: Sequence[float],
        std: Sequence[float],
        mpp: float,
        batch_size: int,
        device: str | torch.device,
        licence: str,
        tile_px: int | None = None,
        tile_mpp: float | None = None,
    ) -> None:
        file = weights_of(name, weights)
        with torch.device("meta"):  # a billion parameters are read, not drawn first
            vit = build_vit(architecture, input_px=input_px, swiglu=swiglu, **arguments)
        network = Pooled(vit, pooling)
        if network.dim != dim:
            raise ConfigError(f"encoder.dim={dim}: {architecture} makes {network.dim} numbers a tile; say so")
        load_vit(vit, file)
        super().__init__(
            name=name,
            network=network,
            weights=file,
            dim=dim,
            input_px=input_px,
            fit=fit,
            normalisation=(tuple(mean), tuple(std)),
            mpp=mpp,
            batch_size=batch_size,
            device=device,
            licence=licence,
            tile_px=tile_px,
            tile_mpp=tile_mpp,
        )


class Pooled(nn.Module):
    """Make a vector of a vision transformer's tokens: `n 3 h w` to `n dim`."""

    def __init__(self, vit: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.vit, self.pooling = vit, pooling
        self.dim = vit.embed_dim * (2 if pooling == "class_and_mean" else 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.vit.forward_features(x)
        if self.pooling == "class":
            return tokens[:, 0]
        mean = tokens[:, self.vit.num_prefix_tokens :].mean(1)
        return mean if self.pooling == "mean" else torch.cat([tokens[:, 0], mean], dim=1)


def build_vit(architecture: str, *, input_px: int, swiglu: bool, **arguments: Any) -> nn.Module:
    """Build an untrained vision transformer of timm's."""
    gated = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if swiglu else {}
    return timm.create_model(
        architecture, pretrained=False, img_size=input_px, num_classes=0, global_pool="token", **gated, **arguments
    )


def load_vit(vit: nn.Module, file: Path) -> None:
    """Load weights in timm's, Meta's or transformers' keys into a timm vision transformer, all of them.

    A position embedding for another image size is resized bicubically.

    Raises:
        WeightsError: missing keys, or shapes of another network.
    """
    given = read_tensors(file)
    tensors = from_transformers(given) if "embeddings.cls_token" in given else _from_meta(given)
    state = vit.state_dict()
    positions = tensors.get("pos_embed")
    if positions is not None and "cls_token" in tensors:
        if vit.no_embed_class and math.isqrt(positions.shape[1] - 1) ** 2 == positions.shape[1] - 1:
            # the class token has a position of its own, which timm adds to the token for good
            tensors["cls_token"] = tensors["cls_token"] + positions[:, :1]
            positions = positions[:, 1:]
        if positions.shape[1] != state["pos_embed"].shape[1]:
            prefix = 0 if vit.no_embed_class else 1
            positions = resample_abs_pos_embed(positions, vit.patch_embed.grid_size, num_prefix_tokens=prefix)
        tensors["pos_embed"] = positions
    missing = [key for key in state if key not in tensors]
    clashes = [key for key in state if key in tensors and tensors[key].shape != state[key].shape]
    if missing or clashes:
        lines = [f"{file}: does not fit this encoder: {len(missing)} tensors missing, {len(clashes)} of another shape"]
        for key in (missing + clashes)[:5]:
            found = tuple(tensors[key].shape) if key in tensors else "nothing"
            lines.append(f"  {key}: the file has {found}, the encoder expects {tuple(state[key].shape)}")
        lines.append(f"  its first keys are {', '.join(f'{k} {tuple(v.shape)}' for k, v in list(given.items())[:3])}")
        lines.append("  check that encoder= names the model in that folder")
        raise WeightsError("\n".join(lines))
    extra = sorted(key for key in tensors.keys() - state.keys() if key not in _UNUSED and not key.startswith("head."))
    if extra:
        raise WeightsError(
            f"{file}: holds {len(extra)} tensors that this encoder has no place for ({', '.join(extra[:3])}); "
            "check that encoder= names the model in that folder"
        )
    vit.load_state_dict({key: tensors[key].float() for key in state}, assign=True)


_UNUSED = frozenset({"mask_token"})
_PREFIXES = ("model.", "backbone.", "teacher.backbone.")
_META_NAMES = (("register_tokens", "reg_token"), (".mlp.w12.", ".mlp.fc1."), (".mlp.w3.", ".mlp.fc2."))


def _from_meta(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spell keys of timm's or Meta's files as timm does."""
    for prefix in _PREFIXES:
        if f"{prefix}patch_embed.proj.weight" in tensors:
            tensors = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            break
    return {_renamed(key): tensor for key, tensor in tensors.items()}


def _renamed(key: str) -> str:
    for old, new in _META_NAMES:
        key = key.replace(old, new)
    return key


def from_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spell the keys of transformers' `Dinov2Model` (Phikon-v2, facebook/dinov2-*) as timm does."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if ".attention.attention." in key:
            continue
        for old, new in _TRANSFORMERS_NAMES:
            key = key.replace(old, new)
        renamed[key] = tensor
    layer = 0
    while f"encoder.layer.{layer}.attention.attention.query.weight" in tensors:
        attention = f"encoder.layer.{layer}.attention.attention"
        for kind in ("weight", "bias"):
            parts = [tensors[f"{attention}.{name}.{kind}"] for name in ("query", "key", "value")]
            renamed[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
        layer += 1
    return renamed


_TRANSFORMERS_NAMES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".attention.output.dense.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    (".mlp.weights_in.", ".mlp.fc1."),
    (".mlp.weights_out.", ".mlp.fc2."),
    ("layernorm.", "norm."),
)
