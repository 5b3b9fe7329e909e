"""Synthetic patches on disk, so that an interrupted evaluation goes on and another descriptor costs no sampling."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.files import open_atomically


def identity_hash(content: dict[str, Any]) -> str:
    """Return 12 hexadecimal digits that change with anything in ``content`` (JSON values)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class PatchStore:
    """Keep the patches of each row and magnification in chunks, under a hash of all that they depend on.

    Chunks of another checkpoint or other settings lie under another hash and are removed by ``prune``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def has(self, row: str, label: str, identity: str, index: int, num: int) -> bool:
        """Tell whether a chunk of ``num`` patches or more is there and whole."""
        return self._read(self._path(row, label, identity, index), num) is not None

    def chunk(
        self, row: str, label: str, identity: str, index: int, num: int, make: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Return the ``num`` patches of a chunk, uint8 (num, p, p, 3), made and written if they are not there."""
        path = self._path(row, label, identity, index)
        images = self._read(path, num)
        if images is None:
            images = make()
            with open_atomically(path) as stream:
                np.savez_compressed(stream, images=images)
        return images[:num]

    def prune(self, row: str, label: str, identity: str) -> None:
        """Remove the chunks of this row and magnification that other checkpoints or settings left."""
        for other in self.folder.glob(f"{row}-{label}-*"):
            if other.is_dir() and other.name != f"{row}-{label}-{identity}":
                shutil.rmtree(other, ignore_errors=True)

    def _path(self, row: str, label: str, identity: str, index: int) -> Path:
        return self.folder / f"{row}-{label}-{identity}" / f"{index:05d}.npz"

    @staticmethod
    def _read(path: Path, num: int) -> np.ndarray | None:
        try:
            with np.load(path, allow_pickle=False) as content:
                images = content["images"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return images if len(images) >= num else None
