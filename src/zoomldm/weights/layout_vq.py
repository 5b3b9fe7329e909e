"""The VQ autoencoder of latent-diffusion and taming-transformers, and where its tensors go in diffusers' `VQModel`."""

from __future__ import annotations

from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, conv, first_shape, norm, prefixed


def vq_rows(dims: Dims) -> list[Row]:
    """List the rows of an autoencoder.

    Dimensions: image_channels, channels, channel_mult, num_res_blocks, latent_channels, num_codes, code_dim,
    middle_attention.
    """
    base, mult, blocks, latent = dims["channels"], dims["channel_mult"], dims["num_res_blocks"], dims["latent_channels"]
    top, levels = base * mult[-1], len(mult)
    rows = conv("encoder.conv_in", "encoder.conv_in", base, dims["image_channels"], 3)
    channels = base
    for level, factor in enumerate(mult):
        source, target = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        for block in range(blocks):
            rows += _res_block(f"{source}.block.{block}", f"{target}.resnets.{block}", channels, base * factor)
            channels = base * factor
        if level < levels - 1:
            rows += conv(f"{source}.downsample.conv", f"{target}.downsamplers.0.conv", channels, channels, 3)
    attends = dims.get("middle_attention", True)
    rows += _middle("encoder", top, attends) + norm("encoder.norm_out", "encoder.conv_norm_out", top)
    rows += conv("encoder.conv_out", "encoder.conv_out", latent, top, 3)

    rows += conv("decoder.conv_in", "decoder.conv_in", top, latent, 3) + _middle("decoder", top, attends)
    for level in reversed(range(levels)):
        source, target = f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for block in range(blocks + 1):
            rows += _res_block(f"{source}.block.{block}", f"{target}.resnets.{block}", channels, base * mult[level])
            channels = base * mult[level]
        if level:
            rows += conv(f"{source}.upsample.conv", f"{target}.upsamplers.0.conv", channels, channels, 3)
    rows += norm("decoder.norm_out", "decoder.conv_norm_out", base)
    rows += conv("decoder.conv_out", "decoder.conv_out", dims["image_channels"], base, 3)
    rows += [Row("quantize.embedding.weight", "quantize.embedding.weight", (dims["num_codes"], dims["code_dim"]))]
    rows += conv("quant_conv", "quant_conv", dims["code_dim"], latent, 1)
    return rows + conv("post_quant_conv", "post_quant_conv", latent, dims["code_dim"], 1)


def _res_block(source: str, target: str, in_dim: int, out_dim: int) -> list[Row]:
    rows = norm(f"{source}.norm1", f"{target}.norm1", in_dim)
    rows += conv(f"{source}.conv1", f"{target}.conv1", out_dim, in_dim, 3)
    rows += norm(f"{source}.norm2", f"{target}.norm2", out_dim)
    rows += conv(f"{source}.conv2", f"{target}.conv2", out_dim, out_dim, 3)
    if in_dim != out_dim:
        rows += conv(f"{source}.nin_shortcut", f"{target}.conv_shortcut", out_dim, in_dim, 1)
    return rows


def _middle(half: str, dim: int, attends: bool) -> list[Row]:
    source, target = f"{half}.mid", f"{half}.mid_block"
    rows = _res_block(f"{source}.block_1", f"{target}.resnets.0", dim, dim)
    attention = f"{target}.attentions.0"
    if attends:
        rows += norm(f"{source}.attn_1.norm", f"{attention}.group_norm", dim)
    for old, new in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")) if attends else ():
        rows += conv(f"{source}.attn_1.{old}", f"{attention}.{new}", dim, dim, 1, squeeze=True)
    return rows + _res_block(f"{source}.block_2", f"{target}.resnets.1", dim, dim)


_HALVES = ("encoder", "decoder")


def infer_vq(shapes: Any) -> Dims | None:
    """Read the dimensions of an autoencoder off its shapes; None where its keys are not there."""
    first, codes = shapes.get("encoder.conv_in.weight"), shapes.get("quantize.embedding.weight")
    latent = first_shape(shapes, "encoder.conv_out.weight", "encoder.conv_out.bias")
    if first is None or len(first) != 4 or latent is None or "decoder.conv_in.weight" not in shapes:
        return None
    mult, blocks = [], 0
    while (shape := _level_shape(shapes, len(mult))) is not None:
        mult.append(shape[0] // first[0])
    while f"encoder.down.0.block.{blocks}.conv1.weight" in shapes:
        blocks += 1
    return {
        "image_channels": first[1],
        "channels": first[0],
        "channel_mult": tuple(mult),
        "num_res_blocks": blocks,
        "latent_channels": latent[0],
        "num_codes": codes[0] if codes else 0,
        "code_dim": codes[1] if codes else latent[0],
        "middle_attention": any(f"{half}.mid.attn_1.{name}.weight" in shapes for half in _HALVES for name in "qkv"),
    }


def _level_shape(shapes: Any, level: int) -> tuple[int, ...] | None:
    block = f"encoder.down.{level}.block.0"
    return first_shape(shapes, f"{block}.conv2.weight", f"{block}.conv1.weight", f"{block}.norm2.weight")


VQ = Family(
    name="VQ autoencoder",
    variants=(prefixed("first_stage_model."), prefixed("")),
    infer=infer_vq,
    rows=vq_rows,
    loads_into="autoencoder.weights=PATH; its latents are scaled by 1.0",
)
