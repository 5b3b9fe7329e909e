"""Regions put together: weights sum to one, a border lies half way, single blocks stay as they are."""

import numpy as np
import pytest

from zoomldm.canvas.blend import blended
from zoomldm.canvas.plan import levels_of
from zoomldm.canvas.store import REGION, CanvasStore
from zoomldm.ladder import Ladder

LADDER = Ladder(patch_px=8, num_rungs=6, base_magnification=20, base_mpp=0.5)


def drawn(tmp_path, value_of, *, rows, block, halo):
    level = levels_of(LADDER, root=LADDER[0], target=LADDER[0], rows=rows, columns=rows)[0]
    store = CanvasStore(tmp_path, block=block)
    for one in level.blocks(block):
        area = level.with_halo(one, halo)
        shape = ((area.bottom - area.top) * 8, (area.right - area.left) * 8, 3)
        store.write_image(level, one, REGION, np.full(shape, value_of(one), np.uint8))
    parts = {one: blended(store, level, one, halo) for one in level.blocks(block)}
    whole = np.zeros((rows * 8, rows * 8), np.uint8)
    for one, part in parts.items():
        whole[one.top * 8 : one.bottom * 8, one.left * 8 : one.right * 8] = part[..., 0]
    return whole


@pytest.mark.parametrize(("rows", "block", "halo"), [(8, 4, 1), (8, 4, 2), (9, 4, 1), (6, 4, 1), (4, 4, 1), (6, 2, 0)])
def test_weights_sum_to_one(tmp_path, rows, block, halo):
    whole = drawn(tmp_path, lambda one: 200, rows=rows, block=block, halo=halo)
    assert (whole == 200).all()


def test_one_block_fades_into_the_next(tmp_path):
    whole = drawn(tmp_path, lambda one: 200 if one.left else 100, rows=8, block=4, halo=1).astype(int)
    assert (whole[:, :24] == 100).all()
    assert (whole[:, 40:] == 200).all()
    assert (np.diff(whole[0, 24:40]) >= 5).all()
    assert abs(whole[0, 31:33].mean() - 150) <= 1
