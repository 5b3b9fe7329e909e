"""Patches that an evaluation keeps for pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zoomldm.files import open_atomically


@dataclass
class Examples:
    """Patches for pictures: row → magnification → uint8 (k, p, p, 3); row ``reference``: the real ones of half B."""

    patches: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all patches into one npz file, atomically."""
        flat = {f"{row}|{label}": images for row, by in self.patches.items() for label, images in by.items()}
        with open_atomically(path) as stream:
            np.savez_compressed(stream, **flat)

    @classmethod
    def load(cls, path: Path) -> Examples:
        """Read what ``save`` wrote; empty where there is nothing."""
        examples = cls()
        if Path(path).is_file():
            with np.load(path, allow_pickle=False) as content:
                for name in content.files:
                    examples.put(*name.split("|"), content[name])
        return examples

    def put(self, row: str, label: str, images: np.ndarray) -> None:
        """Keep a row's patches at a magnification."""
        self.patches.setdefault(row, {})[label] = images

    def get(self, row: str, label: str) -> np.ndarray | None:
        """Return a row's patches at a magnification, None where there are none."""
        return self.patches.get(row, {}).get(label)
