"""The weight files of HIPT's ViT-S/16 (DINO) and of CTransPath, in the keys of timm's models."""

from __future__ import annotations

from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, conv, first_shape, linear, norm, prefixed


def vit_rows(dims: Dims) -> list[Row]:
    """List the rows of a plain vision transformer with dimensions width, depth, patch_px, num_positions, mlp_dim."""
    width = dims["width"]
    rows = [
        Row("cls_token", "cls_token", (1, 1, width)),
        Row("pos_embed", "pos_embed", (1, dims["num_positions"], width), "resize"),
        *conv("patch_embed.proj", "patch_embed.proj", width, 3, dims["patch_px"]),
    ]
    for i in range(dims["depth"]):
        rows += transformer_block(f"blocks.{i}", width, dims["mlp_dim"])
    return rows + norm("norm", "norm", width)


def transformer_block(name: str, width: int, mlp_dim: int) -> list[Row]:
    """List the rows of a pre-norm transformer block as timm names them."""
    rows = norm(f"{name}.norm1", f"{name}.norm1", width)
    rows += linear(f"{name}.attn.qkv", f"{name}.attn.qkv", 3 * width, width)
    rows += linear(f"{name}.attn.proj", f"{name}.attn.proj", width, width)
    rows += norm(f"{name}.norm2", f"{name}.norm2", width)
    rows += linear(f"{name}.mlp.fc1", f"{name}.mlp.fc1", mlp_dim, width)
    return rows + linear(f"{name}.mlp.fc2", f"{name}.mlp.fc2", width, mlp_dim)


def infer_vit(shapes: Any) -> Dims | None:
    """Read the dimensions of a plain vision transformer off its shapes; None where its keys are not there."""
    patch, positions = shapes.get("patch_embed.proj.weight"), shapes.get("pos_embed")
    mlp = first_shape(shapes, "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias")
    if patch is None or len(patch) != 4 or positions is None or mlp is None or "cls_token" not in shapes:
        return None
    if "blocks.0.ls1.gamma" in shapes or "reg_token" in shapes:
        return None  # DINOv2 and its kind: those go through the hub adapter
    depth = 0
    while first_shape(shapes, f"blocks.{depth}.norm1.weight", f"blocks.{depth}.norm2.weight"):
        depth += 1
    return {
        "width": patch[0],
        "depth": depth,
        "patch_px": patch[2],
        "num_positions": positions[1],
        "mlp_dim": mlp[0],
    }


HIPT_DIMS: Dims = {"width": 384, "depth": 12, "patch_px": 16, "num_positions": 197, "mlp_dim": 1536}

HIPT = Family(
    name="HIPT vision transformer (DINO)",
    variants=(prefixed("teacher.backbone."), prefixed("teacher."), prefixed("backbone."), prefixed("")),
    infer=infer_vit,
    rows=vit_rows,
    loads_into="encoder=hipt encoder.weights=PATH",
)


def ctranspath_rows(dims: Dims) -> list[Row]:
    """List the rows of CTransPath: a convolutional stem and a Swin transformer with dimensions width, depths, heads."""
    width, depths, heads, window = dims["width"], dims["depths"], dims["heads"], dims["window"]
    stem = "patch_embed.proj"
    rows = []
    for place, (out_dim, in_dim) in ((0, (width // 8, 3)), (3, (width // 4, width // 8))):
        rows.append(Row(f"{stem}.{place}.weight", f"{stem}.{place}.weight", (out_dim, in_dim, 3, 3)))
        batch_norm = f"{stem}.{place + 1}"
        rows += norm(batch_norm, batch_norm, out_dim)
        for name, shape in (("running_mean", (out_dim,)), ("running_var", (out_dim,)), ("num_batches_tracked", ())):
            rows.append(Row(f"{batch_norm}.{name}", f"{batch_norm}.{name}", shape))
    rows += conv(f"{stem}.6", f"{stem}.6", width, width // 4, 1) + norm("patch_embed.norm", "patch_embed.norm", width)
    for stage, (depth, num_heads) in enumerate(zip(depths, heads)):
        dim = width * 2**stage
        for i in range(depth):
            block = f"layers.{stage}.blocks.{i}"
            rows += transformer_block(block, dim, 4 * dim)
            table = f"{block}.attn.relative_position_bias_table"
            rows.append(Row(table, table, ((2 * window - 1) ** 2, num_heads)))
        if stage < len(depths) - 1:
            source, target = f"layers.{stage}.downsample", f"layers.{stage + 1}.downsample"  # timm moved it up a stage
            rows += linear(f"{source}.reduction", f"{target}.reduction", 2 * dim, 4 * dim, bias=False)
            rows += norm(f"{source}.norm", f"{target}.norm", 4 * dim)
    return rows + norm("norm", "norm", width * 2 ** (len(depths) - 1))


def infer_ctranspath(shapes: Any) -> Dims | None:
    """Tell whether the shapes are CTransPath's (a Swin transformer with a convolutional stem)."""
    first = shapes.get("layers.0.blocks.0.attn.relative_position_bias_table")
    stem = shapes.get("patch_embed.proj.0.weight")
    if stem is None or first is None:
        return None
    return {**CTRANSPATH_DIMS, "width": stem[0] * 8}


CTRANSPATH_DIMS: Dims = {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "window": 7}

CTRANSPATH = Family(
    name="CTransPath",
    variants=(prefixed("model."), prefixed("")),
    infer=infer_ctranspath,
    rows=ctranspath_rows,
    loads_into="encoder=ctranspath encoder.weights=PATH",
    ignored=("attn_mask", "relative_position_index"),
)
