"""A slide's folder of work: the one place that knows its files, its lock, and whether they are still good.

slides/<slide>/state.json   done or failed with the reason; scale, counts, what could not be read
slides/<slide>/samples.npz  for each rung k: k.place y, x (tiles), k.px0 x, y, k.tissue, k.spans; cells (row numbers)
slides/<slide>/images.bin   the encoded patches one after the other
slides/<slide>/rows.npy     (1 + n, D), row 0 is glass; float16, or float32 and yet to be standardised
slides/<slide>/qc.jpg       thumbnail, mask, kept tiles
slides/<slide>/error.txt    the traceback of a slide that failed

The folder is written aside and renamed when it is whole.
"""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from data_prep.slides.files import quick_hash, stamp_of
from data_prep.slides.table import SlideSpec
from data_prep.work.state import WORK_VERSION, DoneSlide, SlideState, has_scale_of, state_of, told_of
from zoomldm.data.schema import slide_key
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError
from zoomldm.files import open_atomically, raise_if_disk_fault, write_json

SLIDES_FOLDER = "slides"


@dataclass(frozen=True, kw_only=True)
class RungSamples:
    """The samples of one rung of a slide, n of them.

    Attributes:
        corner: (n, 2) int32, y and x of the region in tiles.
        corner_px0: (n, 2) int64, x and y of the region in level-0 pixels.
        tissue: (n,) float64.
        spans: (n, 4) int64, offset and size in the images' file of the patch and of its lossless copy; -1: none.
    """

    corner: np.ndarray
    corner_px0: np.ndarray
    tissue: np.ndarray
    spans: np.ndarray


STORED_NAMES = {"corner": "place", "corner_px0": "px0", "tissue": "tissue", "spans": "spans"}
"""What the fields of ``RungSamples`` are called in samples.npz."""


class SlideStore:
    """The work of one slide; holds no file open, since a shard draws on hundreds of slides."""

    def __init__(self, root: Path, slide: str) -> None:
        self.root, self.slide = root, slide
        self.folder = root / SLIDES_FOLDER / slide_key(slide)

    # --- state

    def state(self) -> SlideState | None:
        """Return the slide's state, None where it has none or a damaged one."""
        try:
            return state_of(json.loads((self.folder / "state.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def done(self) -> DoneSlide | None:
        state = self.state()
        return state if isinstance(state, DoneSlide) else None

    def write_state(self, state: SlideState) -> None:
        write_json(self.folder / "state.json", state.to_dict())

    def is_done(self, spec: SlideSpec, *, by_area: bool, regions: str | None) -> bool:
        """Say whether the work is whole and was made of what file, slide table and drawn regions are now.

        Work of older versions, which did not note the drawn regions, is good if file and scale are the same.
        """
        state = self.done()
        if state is None or state.work_version != WORK_VERSION or not has_scale_of(state, spec):
            return False
        if state.told is not None:
            told = {name: value for name, value in state.told.items() if name != "mpp"}  # older versions' scale
            if (told_of(spec, regions=regions), by_area) != (told, state.by_area):
                return False
        try:
            size, mtime_ns = stamp_of(spec.path)
            if size != state.file.bytes:
                return False
            return mtime_ns == state.file.mtime_ns or quick_hash(spec.path) == state.file.quick_hash
        except (OSError, DataError):
            return True  # the slide has been moved away since: its work is still good

    # --- files

    @property
    def images_path(self) -> Path:
        return self.folder / "images.bin"

    @property
    def qc_path(self) -> Path:
        return self.folder / "qc.jpg"

    @property
    def error_path(self) -> Path:
        return self.folder / "error.txt"

    def has_images(self) -> bool:
        return self.images_path.is_file()

    def drop_images(self) -> None:
        self.images_path.unlink(missing_ok=True)

    def image(self, offset: int, size: int) -> bytes:
        with self._said_if_damaged(), open(self.images_path, "rb", buffering=0) as stream:
            stream.seek(offset)
            content = stream.read(size)
            if len(content) != size:
                raise ValueError(f"{self.images_path.name} is cut short")
            return content

    def save_samples(self, cells: np.ndarray, samples: list[RungSamples]) -> None:
        """Write the map of row numbers (tiles_y, tiles_x), 0 is glass, and every rung's samples."""
        arrays = {
            f"{k}.{name}": getattr(rung, field)
            for k, rung in enumerate(samples)
            for field, name in STORED_NAMES.items()
        }
        np.savez(self.folder / "samples.npz", cells=cells, **arrays)

    def cells(self) -> np.ndarray:
        """Return the map of row numbers, (tiles_y, tiles_x) int32."""
        with self._said_if_damaged(), np.load(self.folder / "samples.npz") as stored:
            return stored["cells"]

    def samples(self, rung: int) -> RungSamples:
        with self._said_if_damaged(), np.load(self.folder / "samples.npz") as stored:
            return RungSamples(**{field: stored[f"{rung}.{name}"] for field, name in STORED_NAMES.items()})

    @property
    def rows_path(self) -> Path:
        return self.folder / "rows.npy"

    def save_rows(self, rows: np.ndarray, encoder: Encoder) -> None:
        with open_atomically(self.rows_path) as stream:
            np.save(stream, _stored(rows, encoder))

    def rows(self) -> np.ndarray:
        """Return the slide's rows, mapped into memory: (1 + n, D), `stats`' yet to be standardised."""
        with self._said_if_damaged():
            return np.load(self.rows_path, mmap_mode="r")

    # --- rows of another encoder, until all slides have theirs

    @property
    def _new_rows_path(self) -> Path:
        return self.folder / "rows.new.npy"

    @property
    def _new_encoder_path(self) -> Path:
        return self.folder / "encoder.new.json"

    def save_new_rows(self, rows: np.ndarray, encoder: Encoder) -> None:
        self._new_rows_path.unlink(missing_ok=True)  # another encoder's would pass for this one's
        write_json(self._new_encoder_path, encoder.describe())
        with open_atomically(self._new_rows_path) as stream:
            np.save(stream, _stored(rows, encoder))

    def new_encoder(self) -> dict[str, Any] | None:
        """Return which encoder made the rows that wait, None without any."""
        try:
            return json.loads(self._new_encoder_path.read_bytes()) if self._new_rows_path.is_file() else None
        except (OSError, ValueError):
            return None

    def take_new_rows(self) -> None:
        """Put rows that wait in the old ones' place and their encoder into the state; the waiting file goes last."""
        encoder, state = self.new_encoder(), self.done()
        if encoder is not None and state is not None:
            self.write_state(replace(state, encoder=encoder))
            os.replace(self._new_rows_path, self.rows_path)
        self._new_encoder_path.unlink(missing_ok=True)

    # --- writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes, on this machine or another, from working on the same slide."""
        path = self.folder.parent / ".locks" / f"{self.folder.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    @contextmanager
    def written_aside(self) -> Iterator["SlideStore"]:
        """Yield a store of an empty folder that takes this one's place when the block ends without an error.

        The caller holds the lock: what a killed process left beside is taken away.

        Raises:
            UserError: a full disk, or a folder that cannot be written.
        """
        self._remove_left_over()
        aside = SlideStore(self.root, self.slide)
        aside.folder = self.folder.with_name(f".{self.folder.name}.{socket.gethostname()}-{os.getpid()}.part")
        try:
            aside.folder.mkdir(parents=True)
            yield aside
            shutil.rmtree(self.folder, ignore_errors=True)
            os.replace(aside.folder, self.folder)
        except OSError as error:
            raise_if_disk_fault(error, aside.folder)
            raise
        finally:
            shutil.rmtree(aside.folder, ignore_errors=True)

    def clear(self) -> None:
        """Take away all that the folder holds."""
        for path in self.folder.iterdir():
            path.unlink()

    def _remove_left_over(self) -> None:
        for path in self.folder.parent.glob(f".{self.folder.name}.*part"):
            with suppress(OSError):
                shutil.rmtree(path)

    @contextmanager
    def _said_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(
                f"{self.folder}: the slide's work is damaged ({error}); delete the folder and prepare again"
            ) from error


def _stored(rows: np.ndarray, encoder: Encoder) -> np.ndarray:
    """Return rows as a slide's folder keeps them: float16, but float32 where they are yet to be standardised."""
    return rows if encoder.is_standardised else rows.astype(np.float16)
