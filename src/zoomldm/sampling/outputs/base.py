"""How patches come to disk. A new way is a class and a YAML in conf/to.

Legend: b patches, p patch side (px), n tokens, d token width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Made:
    """Some patches of a magnification as they were made.

    Attributes:
        places: their numbers.
        images: uint8 (b, p, p, 3).
        tokens: of their conditions, float16 (b, n, d).
        facts: what each one was made of, as JSON values.
    """

    places: range
    images: np.ndarray
    tokens: np.ndarray
    facts: Sequence[dict[str, Any]]


class Output(ABC):
    """Puts the patches of a magnification into a folder; several processes may keep some of them each."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    def begin(self, folder: Path) -> None:
        """Make ready; called once, before the first patch is made."""
        return None

    @abstractmethod
    def keep(self, folder: Path, made: Made) -> None:
        """Put patches on disk as soon as they are made, by whichever process made them."""

    def finish(self, folder: Path, num: int) -> None:
        """Bring together what is there; called once, when all ``num`` patches are on disk."""
        return None

    @abstractmethod
    def images(self, folder: Path, num: int) -> np.ndarray:
        """Return the first ``num`` patches, uint8 (num, p, p, 3), after ``finish``."""
