"""The zooming EDM: quarters of grids and tokens, parents that count, samples that do not depend on their batch."""

import pytest
import torch

from tests.helpers.options import make_conditioner, make_prediction, make_schedule, make_solver
from tests.zoomldm.model.test_edm import KNOWN, TABLE, make_batch, with_slides
from zoomldm.data.batch import GridGroup
from zoomldm.errors import ConfigError
from zoomldm.label.base import LabelTable
from zoomldm.model.zooming import Parents, ZoomingEDM, ZoomingEDMTrainable, over_child, quarters

OPTIONS = {"num_steps": 4, "solver": make_solver("ddim"), "guidance_scale": 1.5, "seed": 3}


def build(form="aligned", num_tokens=4, prediction="x0", label=None, **more):
    torch.manual_seed(0)
    sizes = {"num_rungs": 3, "num_tokens": num_tokens, "token_dim": 8, "width": 16, "depth": 2, "heads": 2}
    diffusion = {"schedule": make_schedule("linear"), "prediction": make_prediction(prediction)}
    edm = ZoomingEDM(**sizes, **diffusion, form=form, label=label)
    torch.nn.init.normal_(edm.output.weight, std=0.1)
    cond = make_conditioner(
        "film", num_rungs=3, grid_dim=5, widths=(4, 4, 4, 8), resolution=32 if num_tokens == 4 else 64, token_dim=8
    )
    options = {"drop_probability": 0.1, "alone_probability": 0.3, "parent_noise": 0.1} | more
    return ZoomingEDMTrainable(edm, cond, **options)


def test_a_childs_grid_is_the_quarter_of_its_parents():
    grid = torch.arange(16).reshape(1, 4, 4, 1).expand(4, 4, 4, 2)
    cut = quarters([GridGroup(torch.arange(4), grid)], torch.arange(4))[0]
    assert cut.values[..., 0].tolist() == [
        [[0, 1], [4, 5]],
        [[2, 3], [6, 7]],
        [[8, 9], [12, 13]],
        [[10, 11], [14, 15]],
    ]


def test_a_single_cell_has_no_quarters():
    with pytest.raises(ValueError, match="no quarters"):
        quarters([GridGroup(torch.arange(1), torch.zeros(1, 1, 1, 2))], torch.zeros(1, dtype=torch.int64))


def test_each_of_a_childs_tokens_lies_under_one_of_its_parents():
    tokens = torch.arange(16.0).reshape(1, 16, 1)
    over = over_child(tokens, torch.tensor([1])).reshape(4, 4)
    assert over.tolist() == [[2, 2, 3, 3], [2, 2, 3, 3], [6, 6, 7, 7], [6, 6, 7, 7]]


@pytest.mark.parametrize("form", ["aligned", "context", "both"])
def test_a_parent_counts_where_it_is_known_and_nowhere_else(form):
    edm = build(form, num_tokens=16).edm
    torch.nn.init.normal_(edm.no_parent)
    x, t, rung = torch.randn(2, 16, 8), torch.tensor([500, 500]), torch.tensor([1, 1])
    tokens, quadrant = torch.randn(2, 16, 8), torch.tensor([2, 2])
    known = torch.tensor([True, False])
    said = edm.predict(x, t, rung, Parents(tokens, quadrant, known))
    changed = edm.predict(x, t, rung, Parents(tokens + 1, 3 - quadrant, known))
    plain = edm.predict(x, t, rung)
    assert (said - changed)[0].abs().max() > 1e-3
    assert torch.allclose(said[1], changed[1], atol=1e-6)
    assert torch.allclose(said[1], plain[1], atol=1e-6)


def test_every_part_is_trained_and_the_conditioner_is_not():
    trainable = build("both", num_tokens=16).train()
    trainable.fit_statistics([make_batch()])
    losses = trainable(make_batch(40), seed=0)
    losses["loss_per_sample"].mean().backward()
    assert all(p.grad is not None for _, p in trainable.trained_parameters())
    assert not any(name.startswith("conditioner") for name, _ in trainable.trained_parameters())
    assert float(losses["child_loss"]) > 0


def test_a_sample_above_the_finest_rung_teaches_its_child():
    trainable, batch = build(alone_probability=1e-9, drop_probability=0.0, parent_noise=0.0), make_batch()
    trainable.fit_statistics([batch])
    own = trainable.edm.standardise(trainable.tokens(batch))
    x0, rung, parents = trainable._pairs(batch, own, seed=0)
    assert rung.tolist() == [0, 0, 1] * 3
    assert parents.known.tolist() == [False, True, True] * 3
    assert torch.equal(x0[0], own[0])
    above = torch.where(parents.known)[0]
    children = trainable.edm.standardise(trainable.child_tokens(batch.select(above), parents.quadrant[above]))
    assert torch.allclose(x0[above], children, atol=1e-5)
    assert (x0[above] - own[above]).abs().max() > 1e-2


def test_a_trained_sample_does_not_depend_on_its_batch():
    trainable, batch = build().train(), make_batch(30)
    trainable.fit_statistics([batch])
    whole = trainable(batch, seed=0)["loss_per_sample"]
    part = trainable(batch.select(torch.tensor([7, 2, 11])), seed=0)["loss_per_sample"]
    assert torch.allclose(part, whole[[7, 2, 11]], atol=1e-5)


def test_children_are_drawn_by_their_own_numbers():
    edm, rung = build(num_tokens=16).edm, torch.tensor([0, 1, 1])
    tokens, quadrant, numbers = torch.randn(3, 16, 8), torch.tensor([0, 3, 1]), torch.tensor([5, 6, 7])
    whole = edm.sample_children(tokens, quadrant, rung, numbers, **OPTIONS)
    part = edm.sample_children(tokens[1:2], quadrant[1:2], rung[1:2], numbers[1:2], **OPTIONS)
    assert torch.allclose(part, whole[1:2], atol=1e-5)
    elsewhere = edm.sample_children(tokens, 3 - quadrant, rung, numbers, **OPTIONS)
    assert not torch.allclose(elsewhere, whole, atol=1e-3)


def test_tokens_without_a_square_layout_are_refused():
    sizes = {"num_rungs": 3, "num_tokens": 5, "token_dim": 8, "width": 16, "depth": 1, "heads": 2}
    with pytest.raises(ConfigError, match="square of even side"):
        ZoomingEDM(**sizes, schedule=make_schedule("linear"), prediction=make_prediction("x0"), form="aligned")
    with pytest.raises(ConfigError, match="form='over'"):
        build("over")


def test_a_child_has_the_label_of_its_slide_and_not_of_its_parent():
    seen = {}
    by_patch = LabelTable(TABLE.names, {"key": TABLE.values["s0"]})
    by_slide = LabelTable(TABLE.names, {f"s{i}": TABLE.values["s0"] for i in range(300)})
    for name, labels in (("patch", by_patch), ("slide", by_slide)):
        options = {"labels": labels, "label": KNOWN, "drop_probability": 0.0, "alone_probability": 1e-9}
        trainable, batch = build(**options).train(), with_slides(make_batch(300))
        for meta in batch.meta:
            meta.key = "key"
        trainable.edm.predict = lambda x, t, rung, parents, label, name=name: seen.update({name: (parents, label)}) or x
        trainable(batch, seed=0)
    parents, of_patches = seen["patch"]
    assert not (of_patches[:, 0] == 1)[parents.known].any()
    assert (of_patches[:, 0] == 1)[~parents.known].float().mean() > 0.8
    parents, of_slides = seen["slide"]
    assert (of_slides[:, 0] == 1)[parents.known].float().mean() > 0.8
