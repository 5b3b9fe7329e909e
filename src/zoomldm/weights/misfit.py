"""What does not fit between a weight file and a module, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoomldm.errors import WeightsError
from zoomldm.weights.layout import Dims, Family, Part, Respelt, Shape
from zoomldm.weights.read import weight_file

Tensors = dict[str, Tensor]


def complaint(path: Path, part: Part, tensors: Tensors, what: str, keys: list[str]) -> str:
    """Say what does not fit, with some of the keys and the dimensions that differ."""
    expected = {part.variant.spell(row.source): row.shape for row in part.rows}
    lines = [f"{path}: {part.family.name} ({part.variant.name}): {what}"]
    for key in keys[:5]:
        found = tuple(tensors[key].shape) if key in tensors else "nothing"
        lines.append(f"  {key}: the file has {found}, the model expects {expected[key]}")
    differing = differing_dims(part, tensors)
    if differing:
        lines += [f"  {name}: {a} in the file, {b} in the model" for name, (a, b) in differing.items()]
        lines.append("  build the model with the file's sizes, or take the file that belongs to this model")
    else:
        lines.append("  the file is incomplete or damaged: compare its size with the publisher's and copy it again")
    lines.append("  `python src/weights.py PATH` lists what a file holds")
    return "\n".join(lines)


def differing_dims(part: Part, tensors: Tensors) -> dict[str, tuple[Any, Any]]:
    """Compare the dimensions in the file with the model's: {name: (file's, model's)} where they differ."""
    there = part.family.infer(Respelt(shapes_of(tensors), part.variant)) or {}
    return {key: (value, part.dims.get(key)) for key, value in there.items() if value != part.dims.get(key)}


def foreign(path: Path, family: Family, dims: Dims | None, shapes: dict[str, Shape]) -> WeightsError:
    """Return the error that nothing of a family is in a file."""
    first = ", ".join(f"{key} {shape}" for key, shape in list(shapes.items())[:3])
    expected = ""
    if dims is not None:
        examples = [f"{family.variants[0].spell(row.source)} {row.shape}" for row in family.rows(dims)[:2]]
        expected = f"\n  expected keys such as {', '.join(examples)}"
    return WeightsError(
        f"{path}: holds no {family.name}; its first keys are {first}{expected}\n"
        "  `python src/weights.py PATH` says what the file is"
    )


def shapes_of(tensors: Tensors) -> dict[str, Shape]:
    """Return the shape of each tensor."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


_FREE_SETTINGS = frozenset(
    {"sample_size", "scaling_factor", "num_vq_embeddings", "in_channels", "out_channels", "cross_attention_dim"}
)


def require_config(module: nn.Module, path: Path) -> None:
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
