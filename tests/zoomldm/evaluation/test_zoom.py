"""The judgement of a zoom: a model that knows the real quarters has no error, and one that knows nothing has much."""

import pytest
import torch

from tests.helpers.options import make_solver
from tests.helpers.toy_data import make_toy_data
from tests.zoomldm.model.test_zooming import build
from zoomldm.evaluation.zoom import KINDS, ZoomJudge, table_of
from zoomldm.sampling.settings import Sampling


class Model(torch.nn.Module):
    """Summarise a grid by the mean and the corners of its cells, one token each."""

    def tokens(self, grids, rung):
        found = torch.zeros(len(rung), 4, 8)
        for group in grids:
            values = group.values.float()
            corners = torch.stack([values[:, 0, 0], values[:, 0, -1], values[:, -1, 0], values[:, -1, -1]], dim=1)
            found[group.index, :, :5] = corners[..., :5]
        return found


@pytest.fixture
def manifest(tmp_path):
    return make_toy_data(tmp_path, train=(8, 8), test=(4, 6), patch_px=32, dim=5, latent_px=8)


def judge(edm):
    sampling = Sampling(solver=make_solver("ddim"), steps=2, guidance_scale=1.0, guidance_interval=None)
    return ZoomJudge(Model(), edm, zooming=sampling, plain=sampling, seed=0, batch_size=4)


def test_each_kind_is_told_for_each_magnification(manifest):
    edm = build().edm
    errors = judge(edm).judge(manifest, split="test", num=6)
    assert list(errors.by_rung) == ["20x"]
    assert list(errors.by_rung["20x"]) == list(KINDS)
    assert {label: len(levels) for label, levels in errors.drift.items()} == {"10x": 1}
    assert errors.num == 6
    assert all(error > 0 for error in errors.by_rung["20x"].values())
    assert len(list(table_of(errors))) == 1 + len(KINDS) + 1


def test_a_model_that_knows_the_quarters_has_no_error(manifest, monkeypatch):
    from zoomldm.model import zooming

    edm = build().edm
    corner = torch.tensor([0, 1, 2, 3])

    def known(self, parent_tokens, quadrant, rung, sample_numbers, **options):
        own = parent_tokens[torch.arange(len(quadrant)), corner[quadrant]]  # 2 x 2 cells: a quarter is one of them
        return own[:, None].expand(-1, 4, -1)

    monkeypatch.setattr(zooming.ZoomingEDM, "sample_children", known)
    found = judge(edm).judge(manifest, split="test", num=6).by_rung["20x"]
    assert found["child"] < 1e-6
    assert found["wrong quadrant"] > 0.1
    assert found["another patch's"] > 0.1
