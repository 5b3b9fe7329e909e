"""`class`, `tissue`: one of several names, of a column of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoomldm.errors import ConfigError, near_match
from zoomldm.label.base import Label, LabelTable
from zoomldm.label.tables import column_of, lines_of


class ClassLabel(Label):
    """One of the names in a column; its numbers are a 1 among zeros.

    Args:
        column: of the table.
    """

    is_scaled = False

    def __init__(self, *, name: str, file: str, column: str, dropout_p: float) -> None:
        super().__init__(name=name, file=file, dropout_p=dropout_p)
        self.column = column

    def read(self) -> LabelTable:
        said = column_of(lines_of(self.file), self.column, self.file)
        names = tuple(sorted(set(said.values())))
        rows = dict(zip(names, np.eye(len(names), dtype=np.float32)))
        return LabelTable(names, {whose: rows[value] for whose, value in said.items()})

    def numbers(self, asked: Any, names: Sequence[str]) -> np.ndarray:
        if str(asked) not in names:
            near = near_match(str(asked), names)
            raise ConfigError(f"label {asked}: there is none of this {self.column};{near} it is {' or '.join(names)}")
        return np.eye(len(names), dtype=np.float32)[list(names).index(str(asked))]
