"""The official transformer summarizer as a conditioner; its numbers are in tests/test_golden.py."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.options import make_conditioner
from zoomldm.cond.vit import ViTConditioner, standardise_places
from zoomldm.data.batch import GridGroup


@pytest.fixture
def conditioner() -> ViTConditioner:
    torch.manual_seed(0)
    return make_conditioner("vit", num_rungs=8, grid_dim=12, token_dim=32, depth=1, heads=4).eval()


def group(index: list[int], side: int) -> GridGroup:
    return GridGroup(torch.tensor(index), torch.randn(len(index), side, side, 12).half())


def test_mixed_sides_come_back_in_the_order_of_the_batch(conditioner: ViTConditioner) -> None:
    rung = torch.tensor([2, 0, 6, 2])
    groups = [group([1], 1), group([0, 3], 4), group([2], 64)]
    together = conditioner(groups, rung)
    assert together.shape == (4, 65, 32)
    for one in groups:
        for place, values in zip(one.index.tolist(), one.values):
            alone = conditioner([GridGroup(torch.tensor([0]), values[None])], rung[[place]])
            torch.testing.assert_close(together[place], alone[0], atol=1e-5, rtol=1e-5)


def test_null_tokens_are_zeros_and_no_parameter(conditioner: ViTConditioner) -> None:
    assert torch.equal(conditioner.null_tokens(3), torch.zeros(3, 65, 32))
    assert "null" not in dict(conditioner.named_parameters())
    assert "null" not in conditioner.state_dict()


def test_magnification_and_grid_matter(conditioner: ViTConditioner) -> None:
    grids = [group([0], 4)]
    one = conditioner(grids, torch.tensor([2]))
    assert not torch.allclose(one, conditioner(grids, torch.tensor([3])))
    assert not torch.allclose(one, conditioner([group([0], 4)], torch.tensor([2])))


def test_places_are_standardised_over_their_channels() -> None:
    places = standardise_places(3 + 5 * torch.randn(2, 4, 4, 1024))
    torch.testing.assert_close(places.mean(-1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(places.std(-1), torch.ones(2, 4, 4), atol=1e-5, rtol=0)
    assert torch.isfinite(standardise_places(torch.ones(1, 1, 1, 8))).all()


def test_scale_of_the_embeddings_does_not_matter(conditioner: ViTConditioner) -> None:
    values = torch.randn(1, 2, 2, 12)
    rung = torch.tensor([1])
    one, two = (conditioner([GridGroup(torch.tensor([0]), values * s + 7 * (s - 1))], rung) for s in (1, 2))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
