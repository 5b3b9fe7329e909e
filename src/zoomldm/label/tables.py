"""CSV tables of labels: a line for each slide or each patch."""

from __future__ import annotations

import csv
from pathlib import Path

from zoomldm.errors import DataError, near_match

SAYS_WHOSE = ("key", "slide", "path")
"""Columns that say whose label it is, the first that there is: a patch's key, a slide's name or its file."""


def lines_of(path: Path) -> dict[str, dict[str, str]]:
    """Return the lines of a CSV by the key of a patch or the name of a slide.

    Raises:
        DataError: no such file, no column that says whose label it is, two lines of the same.
    """
    if not path.is_file():
        raise DataError(f"label.file={path}: no such file; docs/labels.md says what labels may be kept in")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        whose = next((column for column in SAYS_WHOSE if column in (reader.fieldnames or ())), None)
        if whose is None:
            raise DataError(
                f"{path}: columns {', '.join(reader.fieldnames or ()) or 'none'}; expected one of "
                f"{', '.join(SAYS_WHOSE)}, which say whose label it is"
            )
        lines: dict[str, dict[str, str]] = {}
        for line in reader:
            name = Path(line[whose]).stem if whose == "path" else line[whose]
            if name in lines:
                raise DataError(f"{path}, line {reader.line_num}: {name} has a line already; give one to each {whose}")
            lines[name] = line
    return lines


def column_of(lines: dict[str, dict[str, str]], column: str, path: Path) -> dict[str, str]:
    """Return what a column says, by whose it is; empty fields are left out.

    Raises:
        DataError: there is no such column, or nothing in it.
    """
    known = [name for name in next(iter(lines.values()), {}) if name]
    if column not in known:
        raise DataError(f"{path}: no column {column};{near_match(column, known)} it has {', '.join(known)}")
    found = {name: value for name, line in lines.items() if (value := (line[column] or "").strip())}
    if not found:
        raise DataError(f"{path}: column {column} is empty")
    return found
