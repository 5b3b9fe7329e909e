"""Say what a weight file is: its parts, their sizes, which model each loads into, what is missing or left over."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from zoomldm.files import sha256_of
from zoomldm.weights.families import FAMILIES, why_not_needed
from zoomldm.weights.layout import Part, Shape, find_part, numel
from zoomldm.weights.layout_diffusers import DIFFUSERS_KL, DIFFUSERS_UNET, DIFFUSERS_VQ
from zoomldm.weights.read import Header, read_header

MAX_LISTED = 8


@dataclass(frozen=True)
class Inspection:
    """What is known of a file. `spare` are keys known to be without use here (key -> why), `unknown` all the others."""

    header: Header
    parts: list[Part]
    spare: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def inspect(path: str | Path) -> Inspection:
    """Recognise the parts of a weight file or folder.

    Raises:
        WeightsError: the file cannot be read safely.
    """
    header = read_header(path)
    parts = find_parts(header.shapes)
    claimed = set().union(*(part.keys for part in parts)) if parts else set()
    ignored = tuple(suffix for part in parts for suffix in part.family.ignored)
    spare, unknown = {}, []
    for key in header.shapes:
        if key in claimed:
            continue
        why = "computed here" if ignored and key.endswith(ignored) else why_not_needed(key)
        if why:
            spare[key] = why
        else:
            unknown.append(key)
    return Inspection(header, parts, spare, unknown)


def find_parts(shapes: dict[str, Shape]) -> list[Part]:
    """Find every known family in a file, each under every spelling that is there."""
    parts: list[Part] = []
    for family in (*FAMILIES, DIFFUSERS_UNET, DIFFUSERS_VQ, DIFFUSERS_KL):
        for variant in family.variants:
            part = find_part(family, variant, shapes)
            taken = any(part is not None and part.keys & other.keys for other in parts)
            if part is not None and not taken and len(part.missing) < len(part.rows) / 2:
                parts.append(part)
    return parts


def report(path: str | Path, *, with_hash: bool = True) -> str:
    """Write what `inspect` finds, for a person."""
    found = inspect(path)
    header = found.header
    size = header.path.stat().st_size
    numbers = sum(numel(shape) for shape in header.shapes.values())
    dtypes = ", ".join(f"{name} {count}" for name, count in Counter(header.dtypes.values()).most_common())
    lines = [
        str(header.path),
        f"  {header.kind}, {size / 1e6:,.1f} MB",
        f"  {len(header.shapes):,} tensors ({dtypes}), {numbers / 1e6:,.2f} M numbers",
    ]
    if with_hash:
        lines.append(f"  sha256 {sha256_of(header.path)}")
    lines += _run_lines(header.path)
    for part in found.parts:
        lines += _part_lines(part)
    if not found.parts:
        first = ", ".join(f"{key} {shape}" for key, shape in list(header.shapes.items())[:5])
        lines.append(f"\nnot recognised: no model of this project loads it. First keys: {first}")
    if found.spare:
        lines.append(f"\nleft over, not needed ({len(found.spare)}):")
        lines += [f"  {count:5} {why}" for why, count in Counter(found.spare.values()).most_common()]
    if found.unknown and found.parts and not is_checkpoint(header.path):
        lines.append(f"\nleft over, unknown ({len(found.unknown)}):")
        lines += [f"  {key} {header.shapes[key]}" for key in found.unknown[:MAX_LISTED]]
        if len(found.unknown) > MAX_LISTED:
            lines.append(f"  … and {len(found.unknown) - MAX_LISTED} more")
    return "\n".join(lines)


def _part_lines(part: Part) -> list[str]:
    dims = ", ".join(f"{name} {_short(value)}" for name, value in part.dims.items())
    lines = [
        f"\n{part.family.name}, {part.num_parameters / 1e6:,.2f} M numbers ({part.variant.name})",
        f"  {dims}",
        f"  loads into: {part.family.loads_into}",
    ]
    if not part.missing and not part.reshaped:
        return [*lines, f"  whole: all {len(part.rows)} tensors are there"]
    expected = {part.variant.spell(row.source): row.shape for row in part.rows}
    if part.missing:
        lines.append(f"  NOT WHOLE: {len(part.missing)} of {len(part.rows)} tensors are missing, it will not load:")
        lines += [f"    {key} {expected[key]}" for key in part.missing[:MAX_LISTED]]
    if part.reshaped:
        lines.append(f"  {len(part.reshaped)} tensors have another shape than the rest asks for, it will not load:")
        lines += [f"    {key} {found}, expected {want}" for key, found, want in part.reshaped[:MAX_LISTED]]
    return lines


def _run_lines(path: Path) -> list[str]:
    """Say of which run a file is, where it lies in a run of this project or in an export."""
    lines = []
    if is_checkpoint(path):
        lines.append(
            f"  the averaged weights of run {path.parents[2].name} of this project: use them with run= its name"
        )
    for name in ("checkpoint.json", "config.json"):
        file = path.parent / name
        if not file.is_file():
            continue
        content = json.loads(file.read_text())
        known = {k: content[k] for k in ("kind", "run_name", "step", "_class_name", "architecture") if k in content}
        if known:
            lines.append(f"  beside it, {name}: " + ", ".join(f"{key} {value}" for key, value in known.items()))
    return lines


def is_checkpoint(path: Path) -> bool:
    """Tell whether a file lies in a checkpoint of a run of this project."""
    return (path.parent / "checkpoint.json").is_file() and len(path.parents) > 2


def _short(value: object) -> str:
    if isinstance(value, tuple) and value and all(isinstance(v, bool) for v in value):
        return "on levels " + ",".join(str(i) for i, v in enumerate(value) if v) if any(value) else "nowhere"
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
