"""`vector`: numbers of a slide, for example an expression profile or the embedding of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.errors import ConfigError, DataError
from zoomldm.label.base import Label, LabelTable
from zoomldm.label.tables import column_of, lines_of


class VectorLabel(Label):
    """Numbers, standardised over the training slides.

    Args:
        file: a CSV; or a .safetensors with a vector a slide, by its name; or a folder of SLIDE.npy.
        columns: of the CSV; None for the other two.
    """

    is_scaled = True

    def __init__(self, *, name: str, file: str, columns: Sequence[str] | None, dropout_p: float) -> None:
        super().__init__(name=name, file=file, dropout_p=dropout_p)
        self.columns = columns

    def read(self) -> LabelTable:
        if self.file.suffix == ".csv":
            return self._of_csv()
        if self.columns:
            raise ConfigError(f"label.columns={list(self.columns)}: {self.file} has no columns, a CSV has")
        vectors = self._vectors()
        sizes = {value.shape for value in vectors.values()}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise DataError(f"{self.file}: expected vectors of one length, got shapes {sorted(sizes)}")
        names = tuple(str(number) for number in range(next(iter(sizes))[0]))
        return LabelTable(names, {slide: _finite(value, f"{self.file}: {slide}") for slide, value in vectors.items()})

    def numbers(self, asked: Any, names: Sequence[str]) -> np.ndarray:
        what = f"label {asked}"
        if isinstance(asked, str):
            path = Path(asked).expanduser()
            if path.suffix != ".npy" or not path.is_file():
                raise ConfigError(f"{what}: expected {len(names)} numbers, [0.1,2,…], or the path of an .npy of them")
            asked = np.load(path)
        found = np.asarray(asked)
        if found.shape != (len(names),):
            first = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
            raise ConfigError(f"{what}: shape {found.shape}; this model was told {len(names)} numbers ({first})")
        return _finite(found, what)

    def _of_csv(self) -> LabelTable:
        if not self.columns:
            raise ConfigError(f"label.columns: which of the columns of {self.file}? [ER,PR], for example")
        lines = lines_of(self.file)
        columns = [column_of(lines, column, self.file) for column in self.columns]
        whole = [whose for whose in lines if all(whose in column for column in columns)]
        where = f"{self.file}, column {' or '.join(self.columns)}"
        return LabelTable(
            tuple(self.columns), {whose: _finite([c[whose] for c in columns], f"{where}: {whose}") for whose in whole}
        )

    def _vectors(self) -> Mapping[str, np.ndarray]:
        if self.file.is_dir():
            found = {path.stem: np.load(path) for path in sorted(self.file.glob("*.npy"))}
        elif self.file.suffix == ".safetensors" and self.file.is_file():
            from safetensors.numpy import load_file

            found = load_file(self.file)
        else:
            raise DataError(f"label.file={self.file}: no such .csv, .safetensors or folder of .npy")
        if not found:
            raise DataError(f"{self.file}: no vectors in it")
        return found


def _finite(values: Any, where: str) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: not a number ({error})") from error
    if not np.isfinite(found).all():
        raise DataError(f"{where}: not a finite number")
    return found
