"""Tile embeddings of every slide as HDF5 (``export=h5``), laid out as TRIDENT and CLAM do: a bag for each slide.

<root>/h5/20x_256px_0px_overlap/features_<encoder>/<slide>.h5
    features    (n, D) float32, of the tiles that were encoded; standardised where the grids' are
    coords      (n, 2) int64, x and y of their corners in level-0 pixels

They are made of the slides' work; no slide is read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_prep.contents import contents_of
from data_prep.pack.slide_work import final_rows
from data_prep.pack.statistics import is_standardised, one_encoder
from data_prep.preparation import Preparation
from data_prep.work.folder import check_settings, read_settings
from data_prep.work.state import DoneSlide
from data_prep.work.store import SlideStore
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import slide_key
from zoomldm.errors import DataError, counted
from zoomldm.files import open_atomically, progress, remove_temporaries
from zoomldm.ladder import Ladder

FOLDER = "h5"
LAYOUT_VERSION = 1
"""Raised by hand where the same work gives another file."""


def export_features(preparation: Preparation) -> Path:
    """Write the embeddings of every slide that is done, and return their folder; files that are there stay.

    Raises:
        ConfigError: the folder was made with other settings.
        DataError: no slide is done, or ``stats`` embeddings have no mean and deviation yet.
    """
    root, ladder = preparation.root, preparation.slide_settings.ladder
    states = preparation.states() if read_settings(root) else []
    if not any(isinstance(state, DoneSlide) for state in states):
        raise DataError(f"{root}: no slide is prepared there; run the same command without export=h5 first")
    check_settings(root, preparation.slide_settings)
    contents = contents_of(preparation, states, {})
    made_of = one_encoder(contents) | {"layout_version": LAYOUT_VERSION}
    if is_standardised(contents):
        made_of["statistics"] = Manifest.load(root).encoder.statistics
    name = f"{ladder[0].label}_{ladder.patch_px}px_0px_overlap"
    folder = root / FOLDER / name / f"features_{made_of['name']}"
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder)
    num_written = num_empty = 0
    for state in progress(contents.done, label="export", unit="slide"):
        store = preparation.store(state.slide)
        with store.lock():
            store.check_rows(state)
            bag = _Bag(state, ladder, store, made_of)
            if len(bag) == 0:
                num_empty += 1
            elif not bag.is_in(folder):
                bag.write(folder)
                num_written += 1
    num_left = len(preparation.specs) + len(preparation.faults) - len(contents.done)
    print(
        f"{folder}: {counted(num_written, 'slide')} written, "
        f"{len(contents.done) - num_written - num_empty} were there, {num_empty} without a tile, "
        f"{num_left} not prepared"
    )
    return folder


class _Bag:
    """The tiles of one slide, n of them.

    Args:
        made_of: the encoder and, where its rows are yet to be standardised, their mean and deviation.
    """

    def __init__(self, state: DoneSlide, ladder: Ladder, store: SlideStore, made_of: dict[str, Any]) -> None:
        self.state, self.ladder, self.store, self.made_of = state, ladder, store, made_of
        self.cells = store.cells()
        self.tiles = np.argwhere(self.cells > 0) if state.num_samples else np.empty((0, 2), np.int64)

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def identity(self) -> str:
        """Return a hash of what decides the file's content."""
        state, ladder = self.state, self.ladder.to_dict()
        told = [self.made_of, ladder, state.file.quick_hash, state.told, state.scale.pitch_px0, state.icc]
        tiles = hashlib.sha256(np.ascontiguousarray(self.tiles).tobytes()).hexdigest()
        return hashlib.sha256(json.dumps([*told, tiles], sort_keys=True).encode()).hexdigest()

    def coords_px0(self) -> np.ndarray:
        """Return (n, 2) int64, x and y of the tiles' corners.

        Where the slide's plane begins within level 0 (MRXS), that is known to a pixel from where its samples lie.
        """
        pitch_px0 = self.ladder.patch_px * self.state.scale.pitch_px0
        origin_px0 = np.zeros(2)
        if any(self.state.scale.origin_level):
            rungs = [self.store.samples(k) for k in range(len(self.ladder))]
            offsets = [rung.corner_px0 - rung.corner[:, ::-1] * pitch_px0 for rung in rungs]
            origin_px0 = np.median(np.concatenate(offsets), axis=0)
        return np.round(self.tiles[:, ::-1] * pitch_px0 + origin_px0).astype(np.int64)

    def path_in(self, folder: Path) -> Path:
        return folder / f"{slide_key(self.state.slide)}.h5"

    def is_in(self, folder: Path) -> bool:
        """Say whether the slide's file is there and would come out the same."""
        try:
            with h5py.File(self.path_in(folder), "r") as stored:
                return stored.attrs["made_of_sha256"] == self.identity
        except (OSError, KeyError):
            return False

    def write(self, folder: Path) -> None:
        """Write the slide's file, whole or not at all."""
        rows = final_rows(np.asarray(self.store.rows()), self.made_of.get("statistics"))
        where = {"name": self.state.slide, "savetodir": str(folder)}
        pitch_px0 = self.state.scale.pitch_px0
        scan = {
            "patch_size": self.ladder.patch_px,
            "patch_size_level0": round(self.ladder.patch_px * pitch_px0),
            "level0_magnification": _short(self.ladder.base_magnification * pitch_px0),
            "target_magnification": _short(self.ladder.base_magnification),
            "overlap": 0,
            "mpp_level0": self.state.scale.mpp_level0,
        }
        made_by = {name: self.made_of[name] for name in ("name", "weights_sha256") if self.made_of.get(name)}
        with open_atomically(self.path_in(folder), "w+b") as stream, h5py.File(stream, "w") as stored:
            stored.attrs["made_of_sha256"] = self.identity
            features = stored.create_dataset("features", data=rows[self.cells[tuple(self.tiles.T)]].astype(np.float32))
            features.attrs.update(where | {f"encoder_{name}": value for name, value in made_by.items()})
            stored.create_dataset("coords", data=self.coords_px0()).attrs.update(where | scan)


def _short(magnification: float) -> int | float:
    """Return a magnification as an integer, as those tools do, where it is one to a tenth."""
    rounded = round(float(magnification), 1)  # a configuration says 20 as well as 20.0
    return int(rounded) if rounded.is_integer() else rounded
