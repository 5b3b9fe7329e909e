"""Synthetic patches on disk, so that an interrupted evaluation goes on and another descriptor costs no sampling."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.files import held, open_atomically


def identity_hash(content: dict[str, Any]) -> str:
    """Return 12 hexadecimal digits that change with anything in ``content`` (JSON values)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def alone(folder: Path) -> AbstractContextManager[None]:
    """Keep a second evaluation of the same run out.

    Raises:
        UserError: there is one already.
    """
    return held(
        folder / ".lock",
        f"{folder.parent.name}: another process evaluates this run now; wait for its end (what it has made is used "
        "then), or evaluate another run",
    )


class Chunks:
    """The patches of one row at one magnification, in chunks, under a hash of all that they depend on.

    Args:
        folder: of all rows; None keeps nothing.
        name: ``<row>-<magnification>``.
        identity: chunks of another checkpoint or other settings lie under another hash and are removed by ``prune``.
        sizes: patches of each chunk.
    """

    def __init__(self, folder: Path | None, name: str, identity: str, sizes: Sequence[int]) -> None:
        self.folder, self.name, self.identity, self.sizes = folder, name, identity, sizes

    def has(self, index: int) -> bool:
        """Say whether a chunk is there whole, by its header alone."""
        if self.folder is None:
            return False
        try:
            with zipfile.ZipFile(self._path(index)) as archive, archive.open("images.npy") as content:
                np.lib.format.read_magic(content)
                shape, _, _ = np.lib.format.read_array_header_1_0(content)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return False
        return shape[0] >= self.sizes[index]

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
