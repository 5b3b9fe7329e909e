"""Synthetic patches on disk, so that an interrupted evaluation goes on and another descriptor costs no sampling."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.files import open_atomically


def identity_hash(content: dict[str, Any]) -> str:
    """Return 12 hexadecimal digits that change with anything in ``content`` (JSON values)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class Chunks:
    """The patches of one row at one magnification, in chunks, under a hash of all that they depend on.

    Args:
        folder: of all rows; None keeps nothing.
        name: ``<row>-<magnification>``.
        identity: chunks of another checkpoint or other settings lie under another hash and are removed by ``prune``.
        sizes: patches of each chunk.

    Attributes:
        missing: the chunks that are not there whole.
    """

    def __init__(self, folder: Path | None, name: str, identity: str, sizes: Sequence[int]) -> None:
        self.folder, self.name, self.identity, self.sizes = folder, name, identity, sizes
        self.missing = {index for index in range(len(sizes)) if self.read(index) is None}

    def read(self, index: int) -> np.ndarray | None:
        """Return the patches of a chunk, uint8 (num, p, p, 3), None where fewer or none are there."""
        if self.folder is None:
            return None
        try:
            with np.load(self._path(index), allow_pickle=False) as content:
                images = content["images"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return images[: self.sizes[index]] if len(images) >= self.sizes[index] else None

    def write(self, index: int, images: np.ndarray) -> None:
        """Keep the patches of a chunk."""
        if self.folder is not None:
            with open_atomically(self._path(index)) as stream:
                np.savez_compressed(stream, images=images)

    def prune(self) -> None:
        """Remove the chunks of this row and magnification that other checkpoints or settings left."""
        for other in self.folder.glob(f"{self.name}-*") if self.folder is not None else ():
            if other.is_dir() and other.name != f"{self.name}-{self.identity}":
                shutil.rmtree(other, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.name}-{self.identity}" / f"{index:05d}.npz"
