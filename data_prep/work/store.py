"""A slide's folder of work: the one place that knows its files, its lock, and whether they are still good.

slides/<slide>/state.json   done or failed with the reason; scale, counts, what could not be read
slides/<slide>/samples.npz  for each rung k: k.place y, x (tiles), k.px0 x, y, k.tissue, k.spans; cells (rows) and focus
slides/<slide>/images.bin   the encoded patches one after the other
slides/<slide>/rows.npy     (1 + n, D), row 0 is glass; float16, or float32 and yet to be standardised
slides/<slide>/qc.jpg       thumbnail, mask, kept tiles; beside it contours.geojson, the mask as polygons
slides/<slide>/error.txt    the traceback of a slide that failed
slides/<slide>/rows.new.npy, encoder.new.json    rows of another encoder, until all slides' have taken their place

The folder is written aside, brought to the disk, and renamed when it is whole; the old one goes last.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.slides.table import SlideSpec
from data_prep.work.arrays import map_npz
from data_prep.work.aside import put_right, written_aside
from data_prep.work.attempts import Attempts
from data_prep.work.lock import locked
from data_prep.work.samples import RungSamples, stored_names
from data_prep.work.stale import why_stale
from data_prep.work.state import DoneSlide, FailedSlide, SlideState, state_of
from zoomldm.data.schema import slide_key
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError
from zoomldm.files import open_atomically, remove, remove_temporaries, rename, sync, write_json
from zoomldm.stored import read_json, read_npy

SLIDES_FOLDER = "slides"


class SlideStore:
    """The work of one slide; holds no file open, since a shard draws on hundreds of slides.

    Args:
        waiting: rows of another encoder that wait are taken for the slide's own, and so is that encoder.
    """

    def __init__(self, root: Path, slide: str, *, waiting: bool = False) -> None:
        self.root, self.slide, self.waiting = root, slide, waiting
        self.folder = root / SLIDES_FOLDER / slide_key(slide)

    def state(self) -> SlideState | None:
        """Return the slide's state, None where it has none or a damaged one."""
        try:
            state = state_of(read_json(self.state_path))
        except (OSError, ValueError):
            return None
        encoder = self.new_encoder() if self.waiting and isinstance(state, DoneSlide) else None
        return replace(state, encoder=encoder) if encoder else state

    def done(self) -> DoneSlide | None:
        state = self.state()
        return state if isinstance(state, DoneSlide) else None

    def write_state(self, state: SlideState) -> None:
        write_json(self.state_path, state.to_dict())

    def note_failure(self, failure: FailedSlide, trace: str = "") -> None:
        """Write why a slide failed; work that it has stays, with a note."""
        state = self.done()
        self.folder.mkdir(parents=True, exist_ok=True)
        if trace:
            self.error_path.write_text(trace)
        self.write_state(replace(state, reread_failed=failure.reason) if state else failure)

    def is_done(self, spec: SlideSpec, *, by_area: bool, regions: str | None) -> bool:
        """Say whether the work is whole and was made of what file, slide table and drawn regions are now."""
        return self.done() is not None and not self.why_stale(spec, by_area=by_area, regions=regions)

    def why_stale(self, spec: SlideSpec, *, by_area: bool, regions: str | None) -> str:
        """Return what has changed since the slide's work was done, in words; "" where it is good, or none is there."""
        state = self.done()
        return why_stale(state, spec, by_area=by_area, regions=regions) if state else ""

    # --- files

    @property
    def state_path(self) -> Path:
        return self.folder / "state.json"

    @property
    def images_path(self) -> Path:
        return self.folder / "images.bin"

    @property
    def qc_path(self) -> Path:
        return self.folder / "qc.jpg"

    @property
    def contours_path(self) -> Path:
        return self.folder / "contours.geojson"

    @property
    def error_path(self) -> Path:
        return self.folder / "error.txt"

    def has_images(self) -> bool:
        return self.images_path.is_file()

    def drop_images(self) -> None:
        remove(self.images_path)

    def save_samples(self, cells: np.ndarray, focus: np.ndarray, samples: list[RungSamples]) -> None:
        """Write the maps of row numbers (0 is glass) and focus, (tiles_y, tiles_x) each, and every rung's samples."""
        arrays = {name: array for k, rung in enumerate(samples) for name, array in rung.stored(k).items()}
        np.savez(self.folder / "samples.npz", cells=cells, focus=focus, **arrays)

    def cells(self) -> np.ndarray:
        """Return the map of row numbers, (tiles_y, tiles_x) int32."""
        with self.said_if_damaged(), np.load(self.folder / "samples.npz") as stored:
            return stored["cells"]

    def focus(self) -> np.ndarray | None:
        """Return the tiles' focus, (tiles_y, tiles_x) float32 in 1/um, NaN without a row; None in old work."""
        with self.said_if_damaged(), np.load(self.folder / "samples.npz") as stored:
            return stored.get("focus")

    def samples(self, rung: int) -> RungSamples:
        with self.said_if_damaged(), np.load(self.folder / "samples.npz") as stored:
            return RungSamples.stored_in(stored, rung)

    def mapped(self, rung: int) -> tuple[np.ndarray, RungSamples]:
        """Return ``cells`` and ``samples`` mapped into memory, their checksums not compared."""
        with self.said_if_damaged():
            stored = map_npz(self.folder / "samples.npz", ("cells", *stored_names(rung).values()))
            return stored["cells"], RungSamples.stored_in(stored, rung)

    @property
    def rows_path(self) -> Path:
        return self._new_rows_path if self.waiting and self.new_encoder() else self.folder / "rows.npy"

    def save_rows(self, rows: np.ndarray, encoder: Encoder) -> None:
        np.save(self.rows_path, rows.astype(encoder.row_dtype, copy=False))

    def rows(self) -> np.ndarray:
        """Return the slide's rows, mapped into memory: (1 + n, D), `stats`' yet to be standardised."""
        with self.said_if_damaged():
            return read_npy(self.rows_path, mapped=True)

    def check_rows(self, state: DoneSlide) -> None:
        """Compare the rows with what the slide's state says of them.

        Raises:
            DataError: they are others.
        """
        with self.said_if_damaged():
            if self.rows().shape != (1 + state.num_tiles_encoded, state.encoder["dim"]):
                raise ValueError(f"{self.rows_path.name} has the shape {self.rows().shape}")

    # --- rows of another encoder, until all slides have theirs

    @property
    def _new_rows_path(self) -> Path:
        return self.folder / "rows.new.npy"

    @property
    def _new_encoder_path(self) -> Path:
        return self.folder / "encoder.new.json"

    def save_new_rows(self, rows: np.ndarray, encoder: Encoder) -> None:
        remove(self._new_rows_path)  # another encoder's would pass for this one's
        write_json(self._new_encoder_path, encoder.describe())
        with open_atomically(self._new_rows_path) as stream:
            np.save(stream, rows.astype(encoder.row_dtype, copy=False))

    def new_encoder(self) -> dict[str, Any] | None:
        """Return which encoder made the rows that wait, None without any."""
        try:
            return read_json(self._new_encoder_path) if self._new_rows_path.is_file() else None
        except (OSError, ValueError):
            return None

    def take_new_rows(self) -> None:
        """Put rows that wait in the old ones' place and their encoder into the state; the waiting file goes last."""
        remove_temporaries(self.folder)
        encoder, state = self.new_encoder(), self.done()
        if encoder is not None and state is not None:
            self.write_state(replace(state, encoder=encoder))
            rename(self._new_rows_path, self.folder / "rows.npy")
        remove(self._new_encoder_path)
        sync(self.folder)

    # --- writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes, on this machine or another, from working on the same slide."""
        with locked(self.folder.parent / ".locks" / f"{self.folder.name}.lock", f"works on slide {self.slide}"):
            put_right(self.folder)
            yield

    def attempts(self, path: Path) -> Attempts:
        """Return how often a process has died over this slide, whose file is ``path``."""
        return Attempts(self.folder.parent / ".locks" / f"{self.folder.name}.attempts", path)

    @contextmanager
    def written_aside(self) -> Iterator["SlideStore"]:
        """Yield a store of an empty folder that takes this one's place when the block ends without an error.

        The caller holds the lock. Where the block has discarded the folder, the old one stays.

        Raises:
            UserError: a full disk, or a folder that cannot be written.
        """
        aside = SlideStore(self.root, self.slide)
        with written_aside(self.folder) as aside.folder:
            yield aside

    def clear(self) -> None:
        """Take away all that the folder holds."""
        for path in self.folder.iterdir():
            remove(path)

    @contextmanager
    def said_if_damaged(self) -> Iterator[None]:
        """Turn what a damaged file raises into a ``DataError`` that names the folder."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # of a damaged file, NumPy and zipfile raise many types
            raise DataError(
                f"{self.folder}: the slide's work is damaged ({error}); delete the folder and prepare again"
            ) from error
