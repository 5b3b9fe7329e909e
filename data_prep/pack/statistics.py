"""Facts of all slides together: their one encoder, and what the rows of `stats` are standardised with."""

import json
from typing import Any

import numpy as np

from data_prep.fold.area import Area
from data_prep.pack.splits import AREA
from data_prep.preparation import Contents
from zoomldm.data.schema import TRAIN
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError


def one_encoder(contents: Contents) -> dict[str, Any]:
    """Return what the slides' encoder says of itself.

    Raises:
        DataError: no slide is done, or they were encoded with different weights.
    """
    encoders = {json.dumps(state.encoder, sort_keys=True): state.slide for state in contents.done}
    if not encoders:
        raise DataError(f"{contents.root}: no slide could be prepared; see qc/index.html")
    if len(encoders) > 1:
        named = "; ".join(f"{slide}: {encoder}" for encoder, slide in encoders.items())
        raise DataError(
            f"{contents.root}: its slides were encoded with different weights ({named}); choose another data.root"
        )
    return json.loads(next(iter(encoders)))


def is_standardised(contents: Contents) -> bool:
    """Say whether the rows are yet to be standardised."""
    return contents.preparation.slide_settings.encoder.target(Encoder).is_standardised


def train_statistics(contents: Contents) -> dict[str, Any]:
    """Return mean and standard deviation of every channel over the tiles of the training part.

    Raises:
        DataError: there is no such tile.
    """
    count, total, squares = 0, 0.0, 0.0
    for state in contents.done:
        if contents.split.of_patient[state.patient] != TRAIN:
            continue
        store = contents.preparation.store(state.slide)
        cells = store.cells()
        if contents.split.held_out == AREA:
            area = Area(**state.area)
            cells = cells[: area.cut] if area.axis == 0 else cells[:, : area.cut]
        rows = np.asarray(store.rows()[cells[cells > 0]], np.float64)
        count += len(rows)
        total = total + rows.sum(0)
        squares = squares + (rows**2).sum(0)
    if not count:
        raise DataError(
            f"{contents.root}: no tissue tile in the training part; see qc/index.html for the mask of every slide"
        )
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
    return {"mean": mean.tolist(), "std": np.maximum(std, 1e-4).tolist(), "num_tiles": int(count)}
