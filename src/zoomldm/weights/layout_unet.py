"""The latent-diffusion U-Net (`model.diffusion_model.*`) and where its 688 tensors go in diffusers' U-Net."""

from __future__ import annotations

from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, Variant, conv, first_shape, linear, norm, prefixed


def unet_rows(dims: Dims) -> list[Row]:
    """List the rows of a U-Net with the dimensions that `build_unet` takes, in the original order."""
    base, mult, blocks = dims["model_channels"], dims["channel_mult"], dims["num_res_blocks"]
    attention, context, depth = dims["attention"], dims["context_dim"], dims.get("transformer_depth", 1)
    time = 4 * base
    rows = linear("time_embed.0", "time_embedding.linear_1", time, base)
    rows += linear("time_embed.2", "time_embedding.linear_2", time, time)
    rows += conv("input_blocks.0.0", "conv_in", base, dims["in_channels"], 3)

    channels, skips, position = base, [base], 1
    for level, factor in enumerate(mult):
        for block in range(blocks):
            source, target = f"input_blocks.{position}", f"down_blocks.{level}"
            rows += _res_block(f"{source}.0", f"{target}.resnets.{block}", channels, base * factor, time)
            channels = base * factor
            if attention[level]:
                rows += _transformer(f"{source}.1", f"{target}.attentions.{block}", channels, context, depth)
            skips.append(channels)
            position += 1
        if level < len(mult) - 1:
            source, target = f"input_blocks.{position}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            rows += conv(source, target, channels, channels, 3)
            skips.append(channels)
            position += 1

    rows += _res_block("middle_block.0", "mid_block.resnets.0", channels, channels, time)
    rows += _transformer("middle_block.1", "mid_block.attentions.0", channels, context, depth)
    rows += _res_block("middle_block.2", "mid_block.resnets.1", channels, channels, time)

    position = 0
    for up, level in enumerate(reversed(range(len(mult)))):
        for block in range(blocks + 1):
            source, target = f"output_blocks.{position}", f"up_blocks.{up}"
            in_dim, channels, place = channels + skips.pop(), base * mult[level], 1
            rows += _res_block(f"{source}.0", f"{target}.resnets.{block}", in_dim, channels, time)
            if attention[level]:
                rows += _transformer(f"{source}.1", f"{target}.attentions.{block}", channels, context, depth)
                place = 2
            if level and block == blocks:
                rows += conv(f"{source}.{place}.conv", f"{target}.upsamplers.0.conv", channels, channels, 3)
            position += 1
    rows += norm("out.0", "conv_norm_out", channels)
    return rows + conv("out.2", "conv_out", dims["out_channels"], base, 3)


def _res_block(source: str, target: str, in_dim: int, out_dim: int, time: int) -> list[Row]:
    rows = norm(f"{source}.in_layers.0", f"{target}.norm1", in_dim)
    rows += conv(f"{source}.in_layers.2", f"{target}.conv1", out_dim, in_dim, 3)
    rows += linear(f"{source}.emb_layers.1", f"{target}.time_emb_proj", out_dim, time)
    rows += norm(f"{source}.out_layers.0", f"{target}.norm2", out_dim)
    rows += conv(f"{source}.out_layers.3", f"{target}.conv2", out_dim, out_dim, 3)
    if in_dim != out_dim:
        rows += conv(f"{source}.skip_connection", f"{target}.conv_shortcut", out_dim, in_dim, 1)
    return rows


def _transformer(source: str, target: str, dim: int, context: int, depth: int) -> list[Row]:
    rows = norm(f"{source}.norm", f"{target}.norm", dim) + conv(f"{source}.proj_in", f"{target}.proj_in", dim, dim, 1)
    for i in range(depth):
        a, b = f"{source}.transformer_blocks.{i}", f"{target}.transformer_blocks.{i}"
        rows += _attention(f"{a}.attn1", f"{b}.attn1", dim, dim)
        rows += linear(f"{a}.ff.net.0.proj", f"{b}.ff.net.0.proj", 8 * dim, dim)
        rows += linear(f"{a}.ff.net.2", f"{b}.ff.net.2", dim, 4 * dim)
        rows += _attention(f"{a}.attn2", f"{b}.attn2", dim, context)
        for name in ("norm1", "norm2", "norm3"):
            rows += norm(f"{a}.{name}", f"{b}.{name}", dim)
    return rows + conv(f"{source}.proj_out", f"{target}.proj_out", dim, dim, 1)


def _attention(source: str, target: str, dim: int, context: int) -> list[Row]:
    rows = linear(f"{source}.to_q", f"{target}.to_q", dim, dim, bias=False)
    rows += linear(f"{source}.to_k", f"{target}.to_k", dim, context, bias=False)
    rows += linear(f"{source}.to_v", f"{target}.to_v", dim, context, bias=False)
    return rows + linear(f"{source}.to_out.0", f"{target}.to_out.0", dim, dim)


def infer_unet(shapes: Any) -> Dims | None:
    """Read the dimensions of a U-Net off its shapes; None where its keys are not there."""
    first = first_shape(shapes, "input_blocks.0.0.weight")
    last = first_shape(shapes, "out.2.weight")
    if first is None or len(first) != 4:
        return None
    base, mult, blocks_of, attention, position = first[0], [], [], [], 1
    new_level = True
    while True:
        source = f"input_blocks.{position}.0"
        names = ("out_layers.3.weight", "in_layers.2.weight", "out_layers.0.bias")
        res = first_shape(shapes, *(f"{source}.{name}" for name in names))
        if res is not None:
            if new_level:
                mult.append(res[0] // base)
                blocks_of.append(0)
                attention.append(False)
                new_level = False
            blocks_of[-1] += 1
            attention[-1] |= f"input_blocks.{position}.1.proj_in.weight" in shapes or (
                f"input_blocks.{position}.1.norm.weight" in shapes
            )
        elif first_shape(shapes, f"{source}.op.weight", f"{source}.op.bias") is not None:
            new_level = True
        else:
            break
        position += 1
    cross = first_shape(
        shapes,
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight",
        "middle_block.1.transformer_blocks.0.attn2.to_v.weight",
    )
    if not mult or cross is None:
        return None
    depth = 1
    while f"middle_block.1.transformer_blocks.{depth}.norm1.weight" in shapes:
        depth += 1
    return {
        "in_channels": first[1],
        "out_channels": last[0] if last else first[1],
        "model_channels": base,
        "channel_mult": tuple(mult),
        "num_res_blocks": max(blocks_of),
        "attention": tuple(attention),
        "context_dim": cross[1],
        "transformer_depth": depth,
    }


def ema_key(key: str) -> str:
    """Spell a U-Net key as LDM's exponential moving average does: without its dots."""
    return "model_ema." + f"diffusion_model.{key}".replace(".", "")


UNET_EMA = Variant("model_ema.* (exponential moving average)", ema_key)
UNET_RAW = prefixed("model.diffusion_model.")

UNET = Family(
    name="latent-diffusion U-Net",
    variants=(UNET_EMA, UNET_RAW, prefixed("diffusion_model."), prefixed("")),
    infer=infer_unet,
    rows=unet_rows,
    loads_into="the U-Net of model=zoomldm: unet.init=PATH",
)
