"""The curriculum as a table and as a picture."""

import numpy as np
from PIL import Image

from tests.helpers.options import make_curriculum
from tests.helpers.settings import make_ladder
from zoomldm.curriculum.preview import draw_preview, preview_table
from zoomldm.curriculum.uniform import Uniform

COUNTS = np.array([12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 0])

LADDER = make_ladder()


def test_the_table_says_samples_and_epochs():
    table = preview_table(Uniform(COUNTS), LADDER, steps=7000, global_batch=600)
    assert "7,000 steps × 600 = 4,200,000 samples" in table
    assert "| 20x | 12,000,000 | 600,000 | 0.05 | 14.3% | 14.3% |" in table
    assert "| 0.3125x | 7,000 | 600,000 | 85.71 |" in table
    assert "without training patches: 0.15625x" in table


def test_the_picture_shows_a_changing_curriculum(tmp_path):
    curriculum = make_curriculum("coarse_to_fine", COUNTS, steps=1000)
    path = draw_preview(curriculum, LADDER, steps=1000, global_batch=60, path=tmp_path / "a/plan.png", title="a run")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.std() > 20
    other = draw_preview(Uniform(COUNTS), LADDER, steps=1000, global_batch=60, path=tmp_path / "b.png", title="a run")
    assert not np.array_equal(pixels, np.asarray(Image.open(other).convert("RGB")))
