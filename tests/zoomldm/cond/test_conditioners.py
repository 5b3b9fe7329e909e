"""Laws of the conditioners on grids of all sizes."""

import pytest
import torch

from tests.helpers.options import model_section
from zoomldm.cond.base import Conditioner, batch_order, facts_of_model, token_side
from zoomldm.config import option_of
from zoomldm.data.batch import GridGroup

DIM, RUNGS = 6, 8
FACTS = {"num_rungs": RUNGS, "grid_dim": DIM, "resolution": 32, "token_dim": 10, "widths": (4, 5, 6, 8)}


def build(name, **more):
    torch.manual_seed(0)
    return option_of("cond", name, **more).make(Conditioner, **FACTS)


ALL = ["film", "cnn", "pool", "mag", "none"]
WITH_GRID = ["film", "cnn", "pool"]


def mixed_batch(seed=0, num_samples=12):
    """Make groups out of order, as a loader may: sample i is at rung i % 8 with a grid of side 2^rung."""
    generator = torch.Generator().manual_seed(seed)
    rung = torch.arange(num_samples) % RUNGS
    groups = []
    for k in (5, 0, 7, 1, 2, 6, 3, 4):
        index = torch.where(rung == k)[0].flip(0)
        groups.append(GridGroup(index, torch.randn(len(index), 2**k, 2**k, DIM, generator=generator).half()))
    return groups, rung


@pytest.mark.parametrize("position_embedding", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_shapes_and_gradients(name, position_embedding):
    cond = build(name, position_embedding=position_embedding)
    groups, rung = mixed_batch()
    tokens = cond(groups if cond.uses_grid else None, rung)
    assert tokens.shape == (12, cond.num_tokens, cond.token_dim) == (12, 4, 10)
    assert cond.null_tokens(3).shape == (3, 4, 10)
    (tokens.square().sum() + cond.null_tokens(1).square().sum()).backward()
    assert all(p.grad is not None for p in cond.parameters())


def test_all_channels_go_to_the_first_block_where_no_projection_is_wanted():
    whole, groups_and_rung = build("film", projection=DIM), mixed_batch()
    assert not list(whole.project.parameters())
    assert whole.blocks[0].conv1.in_channels == DIM
    assert whole(*groups_and_rung).shape == (12, 4, 10)
    assert build("film", projection=7).blocks[0].conv1.in_channels == 7


@pytest.mark.parametrize("name", ALL)
def test_position_embedding_starts_without_effect(name):
    groups, rung = mixed_batch()
    plain, positioned = build(name).eval(), build(name, position_embedding=True).eval()
    assert torch.equal(plain(groups, rung), positioned(groups, rung))


def test_film_at_its_initial_value_is_the_plain_cnn():
    film, cnn = build("film"), build("cnn")
    shared = {key: value for key, value in film.state_dict().items() if key in cnn.state_dict()}
    assert shared.keys() == cnn.state_dict().keys()
    cnn.load_state_dict(shared)
    groups, rung = mixed_batch()
    assert torch.equal(film(groups, rung), cnn(groups, rung))
    assert torch.equal(film.eval()(groups, rung), cnn.eval()(groups, rung))


def test_film_listens_to_magnification_once_its_scales_move_and_cnn_never_does():
    film, cnn = build("film").eval(), build("cnn").eval()
    for block in film.blocks:
        for layer in block.film:
            torch.nn.init.normal_(layer.weight, std=0.1)
    groups, rung = mixed_batch()
    other = (rung + 1) % RUNGS
    assert not torch.allclose(film(groups, rung), film(groups, other))
    assert torch.equal(cnn(groups, rung), cnn(groups, other))


@pytest.mark.parametrize("name", WITH_GRID)
def test_order_of_groups_and_samples_does_not_matter(name):
    cond = build(name).eval()
    groups, rung = mixed_batch()
    tokens = cond(groups, rung)
    assert torch.allclose(cond(groups[::-1], rung), tokens, atol=1e-6)
    for group in groups:
        alone = cond([GridGroup(torch.arange(len(group.index)), group.values)], rung[group.index])
        assert torch.allclose(alone, tokens[group.index], atol=1e-5)


@pytest.mark.parametrize("name", ["film", "cnn"])
def test_projecting_before_upsampling_equals_projecting_the_upsampled_grid(name):
    cond = build(name).eval()
    values = torch.randn(2, 4, 4, DIM)
    upsampled = values.repeat_interleave(8, 1).repeat_interleave(8, 2)
    rung, index = torch.tensor([2, 2]), torch.arange(2)
    assert torch.allclose(cond([GridGroup(index, values)], rung), cond([GridGroup(index, upsampled)], rung), atol=1e-6)


def test_larger_grids_are_averaged_by_area():
    cond = build("cnn")
    values = torch.randn(1, 64, 64, DIM)
    averaged = values.reshape(1, 32, 2, 32, 2, DIM).mean((2, 4))
    assert torch.allclose(cond.resize(values), averaged.movedim(-1, 1), atol=1e-6)


def test_a_batch_norm_sees_the_whole_mixed_batch():
    cond = build("cnn")
    groups, rung = mixed_batch()
    seen = []
    cond.blocks[0].norm1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    cond(groups, rung)
    assert seen == [(12, 4, 32, 32)]


def test_pool_of_a_constant_grid_is_the_normed_projection_of_its_value():
    cond = build("pool")
    cell = torch.randn(DIM)
    for side in (1, 2, 16, 128):
        tokens = cond([GridGroup(torch.zeros(1, dtype=torch.long), cell.expand(1, side, side, DIM))], torch.zeros(1))
        assert torch.allclose(tokens, cond.norm(cond.project(cell)).expand_as(tokens), atol=1e-4)


def test_mag_depends_on_the_rung_alone():
    cond = build("mag")
    groups, rung = mixed_batch()
    assert torch.equal(cond(groups, rung), cond(None, rung))
    tokens = cond(None, torch.tensor([0, 1, 0]))
    assert torch.equal(tokens[0], tokens[2])
    assert not torch.allclose(tokens[0], tokens[1])


def test_none_ignores_everything():
    cond = build("none")
    groups, rung = mixed_batch()
    tokens = cond(groups, rung)
    assert torch.equal(tokens, cond(None, rung.flip(0)))
    assert torch.equal(tokens, cond.null_tokens(12))
    assert not cond.uses_condition


@pytest.mark.parametrize("name", [*ALL, "vit"])
def test_options_are_made_from_a_models_token_sizes(name):
    tokens = {"resolution": 32, "widths": [4, 5, 6, 8], "dim": 16, "position_embedding": True}
    cond = option_of("cond", name).make(Conditioner, **facts_of_model(tokens, num_rungs=RUNGS, grid_dim=DIM))
    assert cond.token_dim == 16
    assert (cond.position is not None) == (name != "vit")
    off = option_of("cond", name, position_embedding=False)
    assert off.make(Conditioner, **facts_of_model(tokens, num_rungs=RUNGS, grid_dim=DIM)).position is None


def test_flags():
    assert [build(name).uses_grid for name in ALL] == [True, True, True, False, False]
    assert [build(name).uses_condition for name in ALL] == [True, True, True, True, False]


def test_paper_sizes():
    tokens = model_section("zoomldm")["model"]["tokens"]
    with torch.device("meta"):
        cond = option_of("cond", "film").make(Conditioner, **facts_of_model(tokens, num_rungs=8, grid_dim=384))
    assert (cond.num_tokens, cond.token_dim, cond.resolution) == (64, 512, 128)


def test_a_sample_without_a_grid_is_refused():
    groups, rung = mixed_batch()
    with pytest.raises(ValueError, match="12 samples came with 10 grids"):
        build("film")(groups[:1] + groups[2:3] + groups[3:], rung)


@pytest.mark.parametrize("resolution", [0, 8, 40])
def test_resolutions_that_cannot_be_pooled_are_refused(resolution):
    with pytest.raises(ValueError, match="multiple of 16"):
        token_side(resolution)


def test_batch_order_is_a_permutation_and_its_inverse():
    groups, rung = mixed_batch()
    order, inverse = batch_order(groups, len(rung))
    assert torch.equal(order[inverse], torch.arange(12))
