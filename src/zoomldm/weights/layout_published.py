"""The later official ZoomLDM (CVPR 2025): its transformer summarizer and its condition model, a DiT."""

from __future__ import annotations

from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, Variant, first_shape, linear, norm, prefixed


def summarizer_rows(dims: Dims) -> list[Row]:
    """List the rows of the summarizer with dimensions grid_dim, width, depth, mlp_dim, num_tokens, num_rungs."""
    width = dims["width"]
    rows = [_same("pad_token", 1, 1, width), _same("mag_embedding.weight", dims["num_rungs"], width)]
    rows += linear("dim_reduce", "dim_reduce", width, dims["grid_dim"])
    rows.append(_same("encoder.pos_embedding", 1, dims["num_tokens"], width))
    for i in range(dims["depth"]):
        name = f"encoder.layers.encoder_layer_{i}"
        rows += norm(f"{name}.ln_1", f"{name}.ln_1", width)
        rows.append(_same(f"{name}.self_attention.in_proj_weight", 3 * width, width))
        rows.append(_same(f"{name}.self_attention.in_proj_bias", 3 * width))
        rows += linear(f"{name}.self_attention.out_proj", f"{name}.self_attention.out_proj", width, width)
        rows += norm(f"{name}.ln_2", f"{name}.ln_2", width)
        rows += linear(f"{name}.mlp.0", f"{name}.mlp.0", dims["mlp_dim"], width)
        rows += linear(f"{name}.mlp.3", f"{name}.mlp.3", width, dims["mlp_dim"])
    rows += norm("encoder.ln", "encoder.ln", width) + linear("final_proj", "final_proj", width, width)
    return rows + norm("layer_norm", "layer_norm", width)


def infer_summarizer(shapes: Any) -> Dims | None:
    """Read the dimensions of the summarizer off its shapes; None where its keys are not there."""
    reduce, positions = shapes.get("dim_reduce.weight"), shapes.get("encoder.pos_embedding")
    block = "encoder.layers.encoder_layer_"
    mlp = first_shape(shapes, f"{block}0.mlp.0.weight", f"{block}0.mlp.0.bias")
    rungs = shapes.get("mag_embedding.weight")
    if reduce is None or positions is None or mlp is None:
        return None
    depth = 0
    while first_shape(shapes, f"{block}{depth}.ln_1.weight", f"{block}{depth}.ln_2.weight"):
        depth += 1
    return {
        "grid_dim": reduce[1],
        "width": reduce[0],
        "depth": depth,
        "mlp_dim": mlp[0],
        "num_tokens": positions[1],
        "num_rungs": rungs[0] if rungs else 8,
    }


SUMMARIZER = Family(
    name="ZoomLDM (CVPR 2025) transformer summarizer",
    variants=(prefixed("cond_stage_model."), prefixed("")),
    infer=infer_summarizer,
    rows=summarizer_rows,
    loads_into="cond=vit, with its U-Net: unet.init=PATH to fine-tune, python src/sample.py weights=PATH to sample",
)


def dit_rows(dims: Dims) -> list[Row]:
    """List the rows of the DiT with dimensions token_dim, num_tokens, width, depth, num_rungs, frequencies."""
    width, token_dim = dims["width"], dims["token_dim"]
    rows = [_same("pos_embed", 1, dims["num_tokens"], width)]
    rows += linear("x_embedder", "x_embedder", width, token_dim)
    rows += linear("t_embedder.mlp.0", "t_embedder.mlp.0", width, dims["frequencies"])
    rows += linear("t_embedder.mlp.2", "t_embedder.mlp.2", width, width)
    rows.append(_same("y_embedder.embedding_table.weight", dims["num_rungs"], width))
    for i in range(dims["depth"]):
        name = f"blocks.{i}"
        rows += linear(f"{name}.attn.qkv", f"{name}.attn.qkv", 3 * width, width)
        rows += linear(f"{name}.attn.proj", f"{name}.attn.proj", width, width)
        rows += linear(f"{name}.mlp.fc1", f"{name}.mlp.fc1", 4 * width, width)
        rows += linear(f"{name}.mlp.fc2", f"{name}.mlp.fc2", width, 4 * width)
        rows += linear(f"{name}.adaLN_modulation.1", f"{name}.adaLN_modulation.1", 6 * width, width)
    rows += linear("final_layer.linear", "final_layer.linear", 2 * token_dim, width)
    return rows + linear("final_layer.adaLN_modulation.1", "final_layer.adaLN_modulation.1", 2 * width, width)


def infer_dit(shapes: Any) -> Dims | None:
    """Read the dimensions of the condition model off its shapes; None where its keys are not there."""
    embed, positions = shapes.get("x_embedder.weight"), shapes.get("pos_embed")
    rungs, frequencies = shapes.get("y_embedder.embedding_table.weight"), shapes.get("t_embedder.mlp.0.weight")
    if embed is None or len(embed) != 2 or positions is None:
        return None
    depth = 0
    while first_shape(shapes, f"blocks.{depth}.attn.qkv.weight", f"blocks.{depth}.attn.proj.weight"):
        depth += 1
    return {
        "token_dim": embed[1],
        "num_tokens": positions[1],
        "width": embed[0],
        "depth": depth,
        "num_rungs": rungs[0] if rungs else 8,
        "frequencies": frequencies[1] if frequencies else 256,
    }


DIT = Family(
    name="ZoomLDM (CVPR 2025) condition model (DiT)",
    variants=(
        Variant("ema.* (exponential moving average)", lambda key: f"ema.{key}"),
        prefixed("model."),
        prefixed(""),
    ),
    infer=infer_dit,
    rows=dit_rows,
    loads_into="model=edm_dit model.init=PATH; python src/sample.py weights=… edm_weights=PATH",
)


def _same(key: str, *shape: int) -> Row:
    return Row(key, key, shape)
