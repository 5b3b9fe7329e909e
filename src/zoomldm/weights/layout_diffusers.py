"""The dimensions of U-Nets and autoencoders saved by diffusers, read off their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, first_shape, prefixed
from zoomldm.weights.layout_unet import UNET
from zoomldm.weights.layout_vq import KL, VQ


def infer_unet(shapes: Any) -> Dims | None:
    """Read the dimensions of a U-Net off diffusers' keys; None where they are not there."""
    first, last = shapes.get("conv_in.weight"), shapes.get("conv_out.weight")
    cross = shapes.get("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")
    if first is None or cross is None:
        return None
    widths, blocks = _levels(shapes, "down_blocks.{}.resnets.{}")
    depth = 1
    while f"mid_block.attentions.0.transformer_blocks.{depth}.norm1.weight" in shapes:
        depth += 1
    return {
        "in_channels": first[1],
        "out_channels": last[0] if last else first[1],
        "model_channels": first[0],
        "channel_mult": tuple(w // first[0] for w in widths),
        "num_res_blocks": blocks,
        "attention": tuple(f"down_blocks.{i}.attentions.0.norm.weight" in shapes for i in range(len(widths))),
        "context_dim": cross[1],
        "transformer_depth": depth,
    }


def infer_vq(shapes: Any) -> Dims | None:
    """Read the dimensions of an autoencoder with a codebook off diffusers' keys; None where they are not there."""
    dims, codes = _infer_autoencoder(shapes), shapes.get("quantize.embedding.weight")
    if dims is None or (codes is None and dims["latent_channels"] != dims["encoder_channels"]):
        return None
    latent = dims["latent_channels"] = dims.pop("encoder_channels")
    return dims | {"num_codes": codes[0] if codes else 0, "code_dim": codes[1] if codes else latent}


def infer_kl(shapes: Any) -> Dims | None:
    """Read the dimensions of an autoencoder without a codebook off diffusers' keys; None where they are not there."""
    dims = _infer_autoencoder(shapes)
    if dims is None or "quantize.embedding.weight" in shapes:
        return None
    return dims if dims.pop("encoder_channels") == 2 * dims["latent_channels"] else None


def _infer_autoencoder(shapes: Any) -> Dims | None:
    first, last = shapes.get("encoder.conv_in.weight"), shapes.get("encoder.conv_out.weight")
    latent = shapes.get("decoder.conv_in.weight")
    if first is None or last is None or latent is None or "encoder.down_blocks.0.resnets.0.conv1.weight" not in shapes:
        return None
    widths, blocks = _levels(shapes, "encoder.down_blocks.{}.resnets.{}")
    attends = "encoder.down_blocks.{}.attentions.0.group_norm.weight"
    return {
        "image_channels": first[1],
        "channels": first[0],
        "channel_mult": tuple(w // first[0] for w in widths),
        "num_res_blocks": blocks,
        "latent_channels": latent[1],
        "encoder_channels": last[0],
        "middle_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
        "attending_levels": tuple(level for level in range(len(widths)) if attends.format(level) in shapes),
    }


def _levels(shapes: Any, block: str) -> tuple[list[int], int]:
    widths, blocks = [], 0
    while (
        shape := first_shape(shapes, *(block.format(len(widths), 0) + f".conv{i}.weight" for i in (2, 1)))
    ) is not None:
        widths.append(shape[0])
    while block.format(0, blocks) + ".conv1.weight" in shapes:
        blocks += 1
    return widths, blocks


def _native(family: Family, infer: Callable[[Any], Dims | None], *prefixes: str) -> Family:
    """Return a family whose files have diffusers' own keys, which are those of our modules, perhaps under a prefix."""

    def rows(dims: Dims) -> list[Row]:
        return [Row(row.target, row.target, row.target_shape) for row in family.rows(dims)]

    variants = tuple(prefixed(prefix) for prefix in ("", *prefixes))
    return Family(name=family.name, variants=variants, infer=infer, rows=rows, loads_into=family.loads_into)


DIFFUSERS_UNET = _native(UNET, infer_unet, "unet.")
DIFFUSERS_VQ = _native(VQ, infer_vq, "vqvae.", "vq.")
DIFFUSERS_KL = _native(KL, infer_kl, "vae.", "kl.")
