"""The autoencoders of latent-diffusion and taming-transformers, and where their tensors go in diffusers' networks.

Both kinds have the same networks. VQ has a codebook; KL's encoder gives two numbers a latent value, a mean and the
logarithm of a variance.
"""

from __future__ import annotations

from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, conv, first_shape, norm, prefixed


def vq_rows(dims: Dims) -> list[Row]:
    """List the rows of an autoencoder with a codebook.

    Dimensions: image_channels, channels, channel_mult, num_res_blocks, latent_channels, middle_attention, and num_codes
    and code_dim.
    """
    latent, code_dim = dims["latent_channels"], dims["code_dim"]
    rows = _networks(dims, encoder_channels=latent)
    rows += [Row("quantize.embedding.weight", "quantize.embedding.weight", (dims["num_codes"], code_dim))]
    rows += conv("quant_conv", "quant_conv", code_dim, latent, 1)
    return rows + conv("post_quant_conv", "post_quant_conv", latent, code_dim, 1)


def kl_rows(dims: Dims) -> list[Row]:
    """List the rows of an autoencoder without a codebook, of the same dimensions but the last two."""
    latent = dims["latent_channels"]
    rows = _networks(dims, encoder_channels=2 * latent) + conv("quant_conv", "quant_conv", 2 * latent, 2 * latent, 1)
    return rows + conv("post_quant_conv", "post_quant_conv", latent, latent, 1)


def _networks(dims: Dims, *, encoder_channels: int) -> list[Row]:
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
    rows += conv("encoder.conv_out", "encoder.conv_out", encoder_channels, top, 3)

    rows += conv("decoder.conv_in", "decoder.conv_in", top, latent, 3) + _middle("decoder", top, attends)
    for level in reversed(range(levels)):
        source, target = f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for block in range(blocks + 1):
            rows += _res_block(f"{source}.block.{block}", f"{target}.resnets.{block}", channels, base * mult[level])
            channels = base * mult[level]
        if level:
            rows += conv(f"{source}.upsample.conv", f"{target}.upsamplers.0.conv", channels, channels, 3)
    rows += norm("decoder.norm_out", "decoder.conv_norm_out", base)
    return rows + conv("decoder.conv_out", "decoder.conv_out", dims["image_channels"], base, 3)


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
    """Read the dimensions of an autoencoder with a codebook off its shapes; None where its keys are not there."""
    dims, codes = _infer_networks(shapes), shapes.get("quantize.embedding.weight")
    if dims is None or (codes is None and _gives_two_numbers(shapes)):
        return None
    return dims | {"num_codes": codes[0] if codes else 0, "code_dim": codes[1] if codes else dims["latent_channels"]}


def infer_kl(shapes: Any) -> Dims | None:
    """Read the dimensions of an autoencoder without a codebook off its shapes; None where its keys are not there."""
    dims = _infer_networks(shapes)
    if dims is None or "quantize.embedding.weight" in shapes or not _gives_two_numbers(shapes):
        return None
    return dims | {"latent_channels": dims["latent_channels"] // 2}


def _gives_two_numbers(shapes: Any) -> bool:
    first = first_shape(shapes, "encoder.conv_out.weight", "encoder.conv_out.bias")
    taken = shapes.get("decoder.conv_in.weight")
    return first is not None and taken is not None and first[0] == 2 * taken[1]


def _infer_networks(shapes: Any) -> Dims | None:
    first = shapes.get("encoder.conv_in.weight")
    latent = first_shape(shapes, "encoder.conv_out.weight", "encoder.conv_out.bias")
    if first is None or len(first) != 4 or latent is None or "decoder.conv_in.weight" not in shapes:
        return None
    mult, blocks = [], 0
    while (shape := _level_shape(shapes, len(mult))) is not None:
        mult.append(shape[0] // first[0])
    while f"encoder.down.0.block.{blocks}.conv1.weight" in shapes:
        blocks += 1
    levels = range(len(mult))
    return {
        "image_channels": first[1],
        "channels": first[0],
        "channel_mult": tuple(mult),
        "num_res_blocks": blocks,
        "latent_channels": latent[0],
        "middle_attention": any(f"{half}.mid.attn_1.{name}.weight" in shapes for half in _HALVES for name in "qkv"),
        "attending_levels": tuple(one for one in levels if f"encoder.down.{one}.attn.0.norm.weight" in shapes),
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
KL = Family(
    name="KL autoencoder",
    variants=(prefixed("first_stage_model."), prefixed("")),
    infer=infer_kl,
    rows=kl_rows,
    loads_into="autoencoder.weights=PATH (to train on: model=autoencoder_kl); its latents are scaled by 1/std",
)
