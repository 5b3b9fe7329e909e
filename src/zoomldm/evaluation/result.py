"""What an evaluation found: dataclasses that become JSON and come back the same."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoomldm.errors import UserError
from zoomldm.evaluation.distances import Measure, Memorisation
from zoomldm.files import write_json

FORMAT_VERSION = 2

ROWS = {
    "halves": "real, other half",
    "held_out": "real, held out",
    "reconstructions": "autoencoder",
    "oracle": "oracle conditions",
    "generated": "generated conditions",
    "shuffled": "shuffled conditions",
    "untrained": "untrained model",
}
ROW_MEANINGS = {
    "halves": "two disjoint halves of the real training patches: the floor at this n",
    "held_out": "training patches against patches that no model saw: how far apart real patches of other origin lie",
    "reconstructions": "real patches through the autoencoder and back: what the latent space costs",
    "oracle": "synthetic, from the conditions of training patches",
    "generated": "synthetic, from conditions that the embedding diffusion model drew: novel patches",
    "shuffled": "synthetic, each from the condition of another patient's patch: the control",
    "untrained": "the same network before training, same conditions: the far end",
}
SYNTHETIC_ROWS = ("oracle", "generated", "shuffled", "untrained")
PAIRED_ROWS = ("halves", "reconstructions", "oracle", "shuffled", "untrained")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row at one magnification in one descriptor, against the reference half of the training patches.

    Attributes:
        num: patches of this row; ``num_reference``: real patches on the other side.
        judged: both sides hold 4 samples a dimension; otherwise the distance is shown and not judged.
        distance: Fréchet distance of the two sets.
        paired: mean squared distance of each patch to its own reference, same unit (None for rows without pairs;
            in row ``halves`` to an unrelated real patch).
    """

    num: int
    num_reference: int
    judged: bool
    distance: Measure
    paired: Measure | None = None
    kid: Measure | None = None
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True, kw_only=True)
class DescriptorInfo:
    """The descriptor behind a distance; ``conditions_model``: the model saw it, so it flatters and does not judge."""

    name: str
    distance_name: str
    dim: int
    fingerprint: str
    conditions_model: bool


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement about the figures: ``holds``, ``not separated`` or ``does not hold``, with what it rests on."""

    statement: str
    verdict: str
    details: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Evaluation:
    """All figures of one evaluation.

    Attributes:
        row_ids: by row a hash of what its figures depend on: checkpoint, data, descriptors, settings.
        run_name, step: the evaluated run and checkpoint; labels: how a comparison names it (``{"cond": "film"}``).
        data: name, manifest hash, held-out kind, counts; settings: n, steps, guidance, seed.
        reference_ids: by magnification; equal for two evaluations whose real patches, halves and judging descriptor
            agree, so that they can be compared sample by sample.
        magnifications: labels, highest first; descriptors: the first one judges.
        cells: distance name → row → magnification → Cell.
        fidelity: row → magnification → cosine of the encoder's embeddings of a patch and its reference.
        memorisation: row → magnification → Memorisation, in the judging descriptor.
    """

    run_name: str
    step: int | None
    magnifications: list[str]
    descriptors: list[DescriptorInfo]
    reference_ids: dict[str, str]
    cells: dict[str, dict[str, dict[str, Cell]]]
    row_ids: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    fidelity: dict[str, dict[str, Measure]] = field(default_factory=dict)
    memorisation: dict[str, dict[str, Memorisation]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    hardware: str = ""
    date: str = ""

    @property
    def judge(self) -> DescriptorInfo:
        """Return the descriptor that the claims rest on."""
        return self.descriptors[0]

    @property
    def rows(self) -> list[str]:
        """Return the rows that were evaluated, in the order of the table."""
        return [row for row in ROWS if row in self.cells[self.judge.distance_name]]

    def cell(self, row: str, label: str, distance_name: str | None = None) -> Cell | None:
        """Return one cell of the judging (or the named) distance, None where nothing was evaluated."""
        return self.cells.get(distance_name or self.judge.distance_name, {}).get(row, {}).get(label)

    def judged(self, row: str = "oracle") -> list[str]:
        """Return the magnifications at which a row has enough samples to be judged, highest first."""
        return [label for label in self.magnifications if (cell := self.cell(row, label)) is not None and cell.judged]

    def metrics(self) -> dict[str, float]:
        """Return every distance as ``fd_texture/oracle/5x``, ready for a tracker."""
        return {
            f"{name}/{row}/{label}": cell.distance.value
            for name, rows in self.cells.items()
            for row, by_label in rows.items()
            for label, cell in by_label.items()
        }

    def to_dict(self) -> dict[str, Any]:
        return {"format_version": FORMAT_VERSION, "kind": "zoomldm-evaluation", **_finite(asdict(self))}

    def save(self, path: str | os.PathLike) -> None:
        """Write the evaluation as JSON, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Evaluation":
        """Read an evaluation.

        Raises:
            UserError: the file is missing, is none, or has another format version.
        """
        try:
            content = json.loads(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: no evaluation can be read there ({error}); run src/evaluate.py") from error
        version = content.pop("format_version", None) if isinstance(content, dict) else None
        if version != FORMAT_VERSION or content.pop("kind", None) != "zoomldm-evaluation":
            raise UserError(
                f"{path}: evaluation of format version {version}, this code reads {FORMAT_VERSION}; "
                "run src/evaluate.py again"
            )
        return cls(
            **{
                **content,
                "descriptors": [DescriptorInfo(**one) for one in content["descriptors"]],
                "cells": _map3(content["cells"], _cell),
                "fidelity": _map2(content["fidelity"], _measure),
                "memorisation": _map2(content["memorisation"], lambda one: Memorisation(**one)),
                "claims": [Claim(**{**one, "details": tuple(one["details"])}) for one in content["claims"]],
            }
        )


def _measure(content: dict | None) -> Measure | None:
    return content and Measure(content["value"], content["error"], tuple(content["replicates"]))


def _cell(content: dict) -> Cell:
    measures = {name: _measure(content[name]) for name in ("distance", "paired", "kid")}
    return Cell(**{**content, **measures})


def _map2(tree: dict, leaf) -> dict:
    return {a: {b: leaf(x) for b, x in inner.items()} for a, inner in tree.items()}


def _map3(tree: dict, leaf) -> dict:
    return {a: _map2(inner, leaf) for a, inner in tree.items()}


def _finite(node: Any) -> Any:
    """Replace what JSON cannot hold (nan, infinities) by None."""
    if isinstance(node, dict):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
