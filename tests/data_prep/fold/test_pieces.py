"""What a fold holds while regions are unfinished: a pixel once, however far they overlap."""

import numpy as np
import pytest

from data_prep.fold.pieces import RungPieces
from data_prep.fold.quadtree import Fold
from data_prep.fold.regions import RegionSettings, RungRegions, find_regions
from tests.helpers.memory import peak_bytes
from tests.helpers.settings import make_ladder

BYTES_A_REGION = 150
"""Of its place and what it still waits for."""
GLASS = np.full(3, 240, np.uint8)


def folded(side: int, stride: float) -> tuple[int, int]:
    """Fold a slide of side x side tiles that is all tissue; return the most bytes held, and the number of regions."""
    ladder = make_ladder(patch_px=16, num_rungs=5)
    told = {"min_tissue": 0.0, "stride": stride, "max_per_slide": None}
    settings = RegionSettings(**{name: dict.fromkeys(ladder.labels, value) for name, value in told.items()})
    regions = find_regions(np.ones((side, side), np.float32), ladder, settings, slide="s", seed=0)

    def read(x, y, width, height):
        return np.zeros((height, width, 3), np.uint8), 1

    def work():
        fold = Fold(read, ladder, (side, side), regions, np.zeros((side, side), bool), block_px=32)
        fold.run(lambda *patch: None, lambda *tiles: None, GLASS)

    return peak_bytes(work), sum(map(len, regions))


@pytest.mark.parametrize("stride", [1, 1 / 16])
def test_memory_grows_with_the_number_of_regions_and_not_with_their_overlap(stride):
    (small, few), (large, many) = (folded(side, stride) for side in (16, 40))
    assert large - small < BYTES_A_REGION * (many - few)


def test_the_regions_at_a_block_are_those_that_reach_into_it():
    ladder, rng = make_ladder(patch_px=16, num_rungs=3), np.random.default_rng(0)
    for rung in ladder.rungs:
        y, x = rng.integers(0, 20, (2, 60))
        chosen = RungRegions(rung=rung, stride=1, y=y, x=x, tissue=np.ones(60))
        pieces = RungPieces(chosen, tiles=4, num_blocks=(5, 5), patch_px=16, glass=GLASS)
        for block in np.ndindex(5, 5):
            wanted = [
                row
                for row in range(60)
                if all(v[row] < 4 * b + 4 and v[row] + rung.grid_side > 4 * b for v, b in zip((y, x), block))
            ]
            assert sorted(pieces.rows_at(block)) == wanted
