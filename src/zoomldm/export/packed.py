"""A trained run as the small folder that stages/packed.py reads: the form in which a model ships with the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoomldm.data.manifest import Manifest
from zoomldm.errors import UserError, WeightsError
from zoomldm.export.anonymous import names_of, require_anonymous
from zoomldm.export.packed_card import Training, packed_card
from zoomldm.export.source import Source
from zoomldm.files import sha256_of, write_atomically, write_json
from zoomldm.stages.packed import CARD_NAME, CONFIG_NAME, FORMAT_VERSION, KIND, PARTS, SUMS_NAME

LARGEST_BYTES = 20_000_000
"""Of all weights together: what a repository carries without regret."""

PLACES = ("paths", "tracking", "run_name", "from", "fresh", "plan", "allow_code")
"""Sections of a run's configuration that say where and how a job ran, and nothing of the model."""


def pack(
    source: Source, target: Path, *, trainings: Sequence[Training] = (), places: Iterable[str] = ()
) -> dict[str, int]:
    """Write a run with all that it stands on into a folder, in the place of what is there; return bytes by file.

    Args:
        trainings: that made it, for the card.
        places: folders whose names must not leave.

    Raises:
        UserError: more than `LARGEST_BYTES`; a weight that float16 cannot hold; a name that must not leave. Then
            nothing is written.
    """
    aside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        modules = _modules(source)
        for name, module in modules.items():
            _save(module, aside / f"{name}.safetensors")
        sizes = {path.name: path.stat().st_size for path in sorted(aside.glob("*.safetensors"))}
        _require_small(sizes)
        write_json(aside / CONFIG_NAME, _content(source, modules))
        sha256 = {name: sha256_of(aside / name) for name in sizes}
        write_atomically(aside / CARD_NAME, packed_card(source, sha256, sizes=sizes, trainings=trainings))
        require_anonymous(aside, names_of(source.manifest, [*places, source.run.folder]))
        sums = "".join(f"{sha256_of(path)}  {path.name}\n" for path in sorted(aside.iterdir()))
        write_atomically(aside / SUMS_NAME, sums)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sizes


def _modules(source: Source) -> dict[str, nn.Module]:
    found = {"autoencoder": source.autoencoder.module, "zoomldm": source.model}
    if not source.autoencoder.config:
        raise UserError("a published autoencoder is its publisher's to give away; pack a run with one trained here")
    return found | ({"edm": source.edm.module} if source.edm else {})


def _save(module: nn.Module, path: Path) -> None:
    """Write a module's weights in float16; what counts stays whole.

    Raises:
        WeightsError: a weight is too large for float16, or none at all.
    """
    from safetensors.torch import save_file

    tensors = {}
    for name, tensor in module.state_dict().items():
        half = tensor.half() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and not torch.isfinite(half).all():
            raise WeightsError(f"{path.stem}: {name} has values that float16 does not hold; nothing was packed")
        tensors[name] = half.contiguous()
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors makes it the owner's alone


def _require_small(sizes: dict[str, int]) -> None:
    if (together := sum(sizes.values())) > LARGEST_BYTES:
        listed = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
        raise UserError(
            f"{together / 1e6:.1f} MB of weights ({listed}); a packed model has {LARGEST_BYTES / 1e6:.0f} MB at most: "
            "train a smaller one (unet.model_channels)"
        )


def _content(source: Source, modules: dict[str, nn.Module]) -> dict[str, Any]:
    facts: dict[str, dict[str, Any]] = {"autoencoder": {}, "zoomldm": source.model.extra_state()}
    if source.edm:
        facts["edm"] = source.edm.module.facts()
    described = {
        "autoencoder": (source.autoencoder.config, source.autoencoder.step),
        "zoomldm": (source.config, source.step),
        "edm": (source.edm.config, source.edm.step) if source.edm else ({}, 0),
    }
    parts = {
        name: {"config": _without_places(described[name][0]), "step": described[name][1], "extra_state": facts[name]}
        for name in PARTS
        if name in modules
    }
    return {"kind": KIND, "format_version": FORMAT_VERSION, "parts": parts, "manifest": _facts_of(source.manifest)}


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in PLACES}
    label = {"label": {**kept["label"], "file": ""}} if kept.get("label") else {}
    return {**kept, **label, "data": _without_folders(config["data"])}


def _without_folders(data: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key not in ("root", "slides")}
    if isinstance(kept.get("demo_slides"), dict):
        kept["demo_slides"] = {key: value for key, value in kept["demo_slides"].items() if key != "folder"}
    return kept


def _facts_of(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as JSON values without samples, slides, patients and places."""
    said = json.loads(manifest.to_bytes())
    said["config"] = _without_folders(said["config"])
    of_samples = {"shards": [], "slides": [], "counts": {}, "patients": {}, "glass": None}
    return said | of_samples | {"columns": {"image": said["columns"]["image"]}}
