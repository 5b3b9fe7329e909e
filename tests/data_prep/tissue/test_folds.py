"""Folds, as far as darkness tells them."""

import json

import numpy as np

from data_prep.tissue.folds import fold_share
from data_prep.work.state import state_of
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder
from tests.helpers.tiny_slides import GLASS, segmenter, tissue_pixels


def folded(image, rows, layers):
    """Lay tissue over itself in some rows."""
    out = image.astype(float)
    out[rows] = (np.array(GLASS) + 1) * ((out[rows] + 1) / (np.array(GLASS) + 1)) ** layers - 1
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


def share(image):
    return fold_share(image, segmenter("default").segment(image, 8.0)[0], 8.0)


def test_a_fold_of_three_layers_is_found_and_tissue_of_any_stain_is_none():
    image = tissue_pixels(320, 240)
    assert 0.6 < share(folded(image, slice(100, 108), 3)) / (8 / 180) < 1.5
    for stain in (0.6, 1.0, 1.6):
        assert share(folded(image, slice(None), stain)) == 0
    assert share(np.full((64, 64, 3), GLASS, np.uint8)) == 0


def test_a_speck_is_no_fold():
    image = tissue_pixels(320, 240)
    image[118:122, 158:162] = 20
    assert share(image) == 0


def test_the_share_is_kept_and_work_of_before_has_none(tiny_slide, tmp_path):
    path = tiny_slide("a", width=500, height=400)
    prepare_folder(path.parent, tmp_path / "data")
    state = SlideStore(tmp_path / "data", "a").done()
    assert state.folds == 0
    assert "folds" in (tmp_path / "data" / "qc" / "slides.csv").read_text().splitlines()[0].split(",")
    before = {key: value for key, value in state.to_dict().items() if key != "folds"}
    assert state_of(json.loads(json.dumps(before))).folds is None
