"""No name of a slide, a patient or a place may leave with an export.

Files are written from counts and distances alone; that none holds such a name is looked for all the same.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from zoomldm.data.manifest import Manifest
from zoomldm.errors import UserError

SHORTEST_NAME = 4
"""Shorter names than this cannot be told from other text and are not searched for; nothing writes them either."""


def names_of(manifest: Manifest, places: Iterable[str | Path]) -> set[str]:
    """Return the names of slides, patients, this machine and folders, none of which may leave."""
    names = {patient for patients in manifest.patients.values() for patient in patients} | set(manifest.excluded())
    slides = {line["slide"] for line in manifest.slides}
    names |= slides | {slide.replace(".", "_") for slide in slides}
    everywhere = [*places, manifest.root, Path.home(), Path.cwd()]
    names |= {str(Path(place).expanduser().resolve()) for place in everywhere}
    return {name for name in names | {platform.node()} if len(name) >= SHORTEST_NAME}


def require_anonymous(folder: Path, names: Iterable[str]) -> None:
    """Refuse an export that holds one of the names, in a text file or in the header of a weight file.

    Raises:
        UserError: which file holds which name.
    """
    patterns = [(name, re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.IGNORECASE)) for name in names]
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        text = _text_of(path)
        for name, pattern in patterns:
            if pattern.search(text):
                raise UserError(
                    f"export: {path.relative_to(folder)} would hold {name!r}, the name of a slide, a patient or a "
                    "place, so nothing was exported. Choose another title= (or rename what carries the name)"
                )


def _text_of(path: Path) -> str:
    if path.suffix != ".safetensors":
        return path.read_text(encoding="utf-8", errors="replace")
    with path.open("rb") as stream:
        return json.dumps(json.loads(stream.read(int.from_bytes(stream.read(8), "little"))))
