"""Every kind of weight file that this project knows, and what the keys are for that it does not need."""

from __future__ import annotations

import re
from typing import Any

from zoomldm.weights.layout import Dims, Family, Row, conv, linear, norm, prefixed
from zoomldm.weights.layout_encoders import CTRANSPATH, HIPT
from zoomldm.weights.layout_published import DIT, SUMMARIZER
from zoomldm.weights.layout_unet import UNET
from zoomldm.weights.layout_vq import KL, VQ

CLASS_EMBEDDING_KEY = "cond_stage_model.embedding.weight"


def _class_embedding(shapes: Any) -> Dims | None:
    shape = shapes.get(CLASS_EMBEDDING_KEY)
    return {"num_classes": shape[0], "width": shape[1]} if shape is not None and len(shape) == 2 else None


CLASS_EMBEDDING = Family(
    name="ImageNet class embedding",
    variants=(prefixed(""),),
    infer=_class_embedding,
    rows=lambda d: [Row(CLASS_EMBEDDING_KEY, CLASS_EMBEDDING_KEY, (d["num_classes"], d["width"]))],
    loads_into="its last row (no class) starts the null tokens with unet.init=PATH; the classes are not used",
)


def _hub_dims(shapes: Any) -> Dims | None:
    patch, positions = shapes.get("patch_embed.proj.weight"), shapes.get("pos_embed")
    if patch is None or positions is None or "blocks.0.ls1.gamma" not in shapes:
        return None
    depth = 0
    while f"blocks.{depth}.ls1.gamma" in shapes:
        depth += 1
    registers, first, second = (
        shapes.get(key) for key in ("reg_token", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
    )
    return {
        "width": patch[0],
        "depth": depth,
        "patch_px": patch[2],
        "num_positions": positions[1],
        "num_registers": registers[1] if registers else 0,
        "mlp_dims": (first[0] if first else 4 * patch[0], second[1] if second else 4 * patch[0]),
    }


def _hub_rows(dims: Dims) -> list[Row]:
    width, (hidden, gated) = dims["width"], dims["mlp_dims"]
    rows = [
        Row("cls_token", "cls_token", (1, 1, width)),
        Row("pos_embed", "pos_embed", (1, dims["num_positions"], width)),
        *conv("patch_embed.proj", "patch_embed.proj", width, 3, dims["patch_px"]),
    ]
    if dims["num_registers"]:
        rows.append(Row("reg_token", "reg_token", (1, dims["num_registers"], width)))
    for i in range(dims["depth"]):
        name = f"blocks.{i}"
        for part, key in ((norm, "norm1"), (norm, "norm2")):
            rows += part(f"{name}.{key}", f"{name}.{key}", width)
        for key, out_dim, in_dim in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", hidden, width),
            ("mlp.fc2", width, gated),
        ):
            rows += linear(f"{name}.{key}", f"{name}.{key}", out_dim, in_dim)
        rows += [Row(f"{name}.ls{j}.gamma", f"{name}.ls{j}.gamma", (width,)) for j in (1, 2)]
    return rows + norm("norm", "norm", width)


HUB_ENCODER = Family(
    name="vision transformer of the DINOv2 kind (timm)",
    variants=(prefixed(""), prefixed("model.")),
    infer=_hub_dims,
    rows=_hub_rows,
    loads_into="encoder=uni, uni2_h, virchow2, h_optimus_0 or dinov2 with encoder.weights=PATH",
)


def _inception(shapes: Any) -> Dims | None:
    return {"outputs": shapes["fc.weight"][0]} if "Mixed_5b.branch1x1.conv.weight" in shapes else None


INCEPTION = Family(
    name="InceptionV3 of the FID",
    variants=(prefixed(""),),
    infer=_inception,
    rows=lambda d: [Row("fc.weight", "fc.weight", (d["outputs"], 2048))],
    loads_into="features=inception features.weights=PATH",
)

FAMILIES: tuple[Family, ...] = (
    UNET,
    VQ,
    KL,
    SUMMARIZER,
    CLASS_EMBEDDING,
    DIT,
    CTRANSPATH,
    HIPT,
    HUB_ENCODER,
    INCEPTION,
)

NOT_NEEDED: tuple[tuple[str, str], ...] = (
    (r"^(betas$|logvar$|scale_factor$|posterior_)|^[a-z0-9_]*alphas_cumprod(_prev)?$", "noise schedule, computed here"),
    (r"^model_ema\.(decay|num_updates)$", "bookkeeping of the moving average"),
    (r"^model_ema\.", "moving average of another part"),
    (r"(^|\.)loss\.", "perceptual and adversarial networks of the autoencoder's training"),
    (r"^student\.", "DINO's student, the teacher is used"),
    (r"(^|\.)head\.", "head of the training task"),
    (r"^model\.(?!diffusion_model)", "weights without averaging, the average is used"),
    (r"attn_mask$|relative_position_index$", "computed here"),
    (r"^(Mixed|Conv2d|fc)", "InceptionV3"),
)


def why_not_needed(key: str) -> str | None:
    """Say what a key is that no part of a file claims and that is known to be without use here; None if unknown."""
    return next((why for pattern, why in NOT_NEEDED if re.search(pattern, key)), None)
