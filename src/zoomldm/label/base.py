"""What an embedding diffusion model may be told beside the magnification: a class, or numbers, of a patch or its slide.

Legend: b batch, f numbers of a label.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import TRAIN, SampleMeta, parse_key, slide_key
from zoomldm.errors import DataError


@dataclass(frozen=True)
class LabelTable:
    """The labels of a data set; what is not in it has none.

    Attributes:
        names: of the numbers: the classes, or the columns.
        values: float32 (f,), by the name of a slide or the key of a patch.
    """

    names: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    @property
    def sha256(self) -> str:
        """The hash of all of it."""
        found = hashlib.sha256(repr(self.names).encode())
        for name in sorted(self.values):
            found.update(name.encode() + self.values[name].tobytes())
        return found.hexdigest()

    def told(self, metas: Sequence[SampleMeta], *, of_slides: bool = False) -> np.ndarray:
        """Give float32 (b, 1 + f): 1 and the numbers where a sample has a label, else zeros.

        Args:
            of_slides: the labels of slides alone, for what lies within a sample and is not the sample.
        """
        rows = np.zeros((len(metas), 1 + len(self.names)), np.float32)
        for row, meta in zip(rows, metas):
            value = self.values.get(meta.slide)
            if value is None and not of_slides:
                value = self.values.get(meta.key)
            if value is not None:
                row[0], row[1:] = 1, value
        return rows

    def of_training(self, manifest: Manifest) -> np.ndarray:
        """Return the labels of training slides or of their patches, float32 (m, f).

        Raises:
            DataError: there is none: the table names other slides or patches.
        """
        patients = set(manifest.patients.get(TRAIN, ()))
        slides = {str(one["slide"]) for one in manifest.slides if one.get("patient") in patients}
        keys = {slide_key(slide) for slide in slides}
        found = [value for name, value in self.values.items() if name in slides or _slide_in(name) in keys]
        if not found:
            given, wanted = (", ".join(sorted(names)[:3]) for names in (self.values, slides))
            raise DataError(
                f"{len(self.values)} labels ({given} …), none of a training slide of {manifest.root}, which are called "
                f"{wanted} …"
            )
        return np.stack(found)


class Label(ABC):
    """A kind of label (conf/label).

    Args:
        file: where the labels are.
        dropout_p: chance that a sample trains without its label, so that the model is also one without.

    Attributes:
        is_scaled: its numbers are standardised over the training slides.
    """

    is_scaled: bool

    def __init__(self, *, name: str, file: str, dropout_p: float) -> None:
        if not 0 <= dropout_p < 1:
            raise ValueError(f"dropout_p={dropout_p}: expected 0 or more, below 1")
        self.name, self.file, self.dropout_p = name, Path(file).expanduser(), dropout_p

    @abstractmethod
    def read(self) -> LabelTable:
        """Read the labels.

        Raises:
            UserError: the file is missing or is not what is expected.
        """

    @abstractmethod
    def numbers(self, asked: Any, names: Sequence[str]) -> np.ndarray:
        """Return the numbers float32 (f,) of a label that is asked for, by the names that a model learnt.

        Raises:
            ConfigError: there is no such label.
        """


@dataclass(frozen=True)
class KnownLabels:
    """The labels that a model learnt: their kind, and the names of their numbers."""

    kind: Label
    names: tuple[str, ...]

    def told(self, asked: Any) -> np.ndarray:
        """Return 1 and the numbers of a label that is asked for, float32 (1 + f,)."""
        return np.concatenate([np.ones(1, np.float32), self.kind.numbers(asked, self.names)])


def _slide_in(key: str) -> str | None:
    try:
        return parse_key(key)[0]
    except ValueError:
        return None
