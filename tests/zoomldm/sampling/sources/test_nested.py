"""The middle of a region's grid is the grid of the middle of the region."""

import numpy as np
import torch

from tests.helpers.toy_data import make_toy_data
from zoomldm.sampling.sources.nested import Nested
from zoomldm.sampling.sources.oracle import OracleSource


def test_a_scene_of_real_patches_is_cut_from_the_coarsest_grids(tmp_path):
    manifest = make_toy_data(tmp_path)
    oracle = OracleSource(name="oracle", split="train", manifest=manifest, seed=0)
    coarsest = manifest.ladder[2]
    scene = oracle.scene(coarsest)
    assert isinstance(scene, Nested)
    whole = scene.read(coarsest, 1, 4, with_grids=True)
    (group,) = (group.dense() for group in whole.grids)
    for rung, middle in ((manifest.ladder[1], slice(1, 3)), (manifest.ladder[0], slice(1, 2))):
        part = scene.read(rung, 1, 4, with_grids=True)
        assert torch.equal(part.grids[0].values, group.values[:, middle, middle])
        assert part.rung.tolist() == [rung.index] * 3
        for meta, outer in zip(part.meta, whole.meta, strict=True):
            assert meta.magnification == rung.magnification
            assert meta.region_px0 == outer.region_px0 // (4 // rung.grid_side)
            assert meta.x_px0 == outer.x_px0 + outer.region_px0 // 4
            assert (meta.slide, meta.patient) == (outer.slide, outer.patient)
        assert scene.references(rung, 2) is None
    assert scene.count(manifest.ladder[0]) == oracle.count(coarsest)
    np.testing.assert_array_equal(scene.references(coarsest, 2), oracle.references(coarsest, 2))
