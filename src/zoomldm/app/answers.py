"""What the page offers and what it answers.

Legend: k patches, p patch side (px).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.config import Option
from zoomldm.ladder import Rung


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Patches of one magnification.

    Attributes:
        images: uint8 (k, p, p, 3).
        reference: the real patch whose condition they have, uint8 (p, p, 3), where there is one.
        files: a PNG each, with its settings.
    """

    rung: Rung
    images: np.ndarray
    reference: np.ndarray | None
    files: list[Path]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """An answer for each magnification that has a condition, and why the others have none."""

    answers: list[Answer]
    left_out: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What may be chosen: sources and solvers, by name, and files of slides, by name."""

    sources: Mapping[str, Option]
    solvers: Mapping[str, Option]
    slides: Mapping[str, str]
