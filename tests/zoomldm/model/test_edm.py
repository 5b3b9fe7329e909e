"""EDM: statistics, keyed draws, guidance on magnification, labels, a frozen conditioner."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.options import make_conditioner, make_prediction, make_schedule, make_solver
from zoomldm.config import option_of
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.errors import ConfigError
from zoomldm.label.base import KnownLabels, Label, LabelTable
from zoomldm.model.edm import EDM, EDMTrainable

SIZES = {"resolution": 32, "token_dim": 8}


def build_edm(prediction="x0", **more):
    torch.manual_seed(0)
    diffusion = {"schedule": make_schedule("linear"), "prediction": make_prediction(prediction)}
    edm = EDM(num_rungs=3, num_tokens=4, token_dim=8, width=16, depth=2, heads=2, **diffusion, **more)
    torch.nn.init.normal_(edm.output.weight, std=0.1)
    return edm


def build(labels=None, **more):
    torch.manual_seed(0)
    cond = make_conditioner("film", num_rungs=3, grid_dim=5, widths=(4, 4, 4, 8), **SIZES)
    return EDMTrainable(build_edm(**more), cond, labels=labels)


KIND = option_of("label", "class", file="labels.csv", column="tissue").make(Label)
KNOWN = KnownLabels(KIND, ("fat", "tumour"))
TABLE = LabelTable(KNOWN.names, {f"s{i}": np.eye(2, dtype=np.float32)[i % 2] for i in range(0, 3000, 3)})


def with_slides(batch):
    """Every third sample is of a slide with a label."""
    return replace(batch, meta=[SimpleNamespace(slide=f"s{i}", key="") for i in range(len(batch))])


def make_batch(num_samples=9):
    generator = torch.Generator().manual_seed(1)
    rung = torch.arange(num_samples) % 3
    groups = []
    for k in range(3):
        index = torch.where(rung == k)[0]
        groups.append(GridGroup(index, torch.randn(len(index), 2**k, 2**k, 5, generator=generator).half()))
    return Batch(sample_number=10 + torch.arange(num_samples), rung=rung, grids=groups)


def test_standardisation_round_trip():
    edm, generator = build_edm(), torch.Generator().manual_seed(0)
    tokens = 3 + torch.linspace(0.1, 5, 8) * torch.randn(500, 4, 8, generator=generator)
    tokens[..., 2] = 1.5
    edm.fit_statistics(tokens.split(100))
    standard = edm.standardise(tokens)
    kept = [0, 1, 3, 4, 5, 6, 7]
    assert standard[..., kept].mean((0, 1)).abs().max() < 1e-5
    assert standard[..., kept].std((0, 1), unbiased=False).sub(1).abs().max() < 1e-4
    assert standard[..., 2].abs().max() < 1e-5
    assert torch.allclose(edm.unstandardise(standard), tokens, atol=1e-5)


def test_statistics_are_part_of_the_weights():
    edm, other = build_edm(), build_edm()
    edm.fit_statistics([5 + torch.randn(50, 4, 8)])
    other.load_state_dict(edm.state_dict())
    assert torch.equal(other.token_mean, edm.token_mean)


def test_the_conditioner_stays_frozen_and_in_evaluation_mode():
    trainable = build().train()
    before = {key: value.clone() for key, value in trainable.conditioner.state_dict().items()}
    trainable(make_batch(), seed=0)["loss_per_sample"].mean().backward()
    assert all(torch.equal(value, before[key]) for key, value in trainable.conditioner.state_dict().items())
    assert not any(name.startswith("conditioner") for name, _ in trainable.trained_parameters())
    assert all(p.grad is not None for _, p in trainable.trained_parameters())
    assert trainable.edm.training
    assert not trainable.conditioner.training


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    trainable, batch = build(), make_batch()
    trainable.fit_statistics([batch])
    whole = trainable(batch, seed=0)["loss_per_sample"]
    part = trainable(batch.select(torch.tensor([7, 2])), seed=0)["loss_per_sample"]
    assert torch.allclose(part, whole[[7, 2]], atol=1e-5)


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_a_model_that_knows_the_tokens_has_no_loss_and_samples_them(prediction):
    trainable, batch = build(prediction=prediction), make_batch()
    trainable.fit_statistics([batch])
    tokens = trainable.tokens(batch)
    standard, schedule = trainable.edm.standardise(tokens), trainable.edm.schedule

    def known(x, t, rung):
        return trainable.edm.prediction.target(schedule, standard, schedule.eps_from_x0(x, standard, t), t)

    trainable.edm.predict = known
    x, t = torch.randn(standard.shape), torch.full_like(batch.rung, 500)
    assert torch.allclose(trainable.edm.predict_x0(x, t, batch.rung), standard, atol=1e-4)
    assert trainable(batch, seed=0)["loss_per_sample"].max() < 1e-8
    out = trainable.edm.sample(
        batch.rung, batch.sample_number, seed=0, solver=make_solver(), num_steps=50, guidance_scale=1
    )
    assert torch.allclose(out, tokens, atol=0.15)


def test_magnification_is_dropped_to_its_null_with_its_probability():
    trainable = build()
    rungs = []
    trainable.edm.predict = lambda x, t, rung: rungs.append(rung) or x
    batch = make_batch(3000)
    trainable(batch, seed=0)
    is_null = rungs[0] == trainable.edm.null_rung
    assert is_null.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(rungs[0][~is_null], batch.rung[~is_null])
    trainable.eval()(batch, seed=0)
    assert torch.equal(rungs[1], batch.rung)  # validation drops none


def test_samples_do_not_depend_on_their_batch_and_follow_the_magnification():
    edm = build_edm().eval()
    rung, numbers = torch.tensor([0, 1, 2, 0]), torch.arange(4)
    options = {"seed": 3, "solver": make_solver(), "num_steps": 5, "guidance_scale": 1.75}
    whole = edm.sample(rung, numbers, **options)
    assert whole.shape == (4, 4, 8)
    assert torch.allclose(edm.sample(rung[2:], numbers[2:], **options), whole[2:], atol=1e-5)
    assert not torch.allclose(edm.sample(torch.tensor([1, 1, 2, 0]), numbers, **options)[0], whole[0], atol=1e-3)
    plain = edm.sample(rung, numbers, **(options | {"guidance_scale": 1}))
    assert not torch.allclose(plain, whole, atol=1e-4)


def test_attention_mixes_all_tokens():
    edm = build_edm().eval()
    x = torch.randn(1, 4, 8, requires_grad=True)
    edm.predict(x, torch.tensor([5]), torch.tensor([0]))[0, 0].sum().backward()
    assert (x.grad.abs().sum((0, 2)) > 0).all()


@pytest.mark.parametrize("cond", [make_conditioner("mag", num_rungs=3, **SIZES), make_conditioner("none", **SIZES)])
def test_conditioners_without_a_grid_are_refused(cond):
    with pytest.raises(ConfigError, match="reads no embedding grid"):
        EDMTrainable(build_edm(), cond)


def test_a_label_counts_and_an_unknown_one_is_none():
    edm = build_edm(label=KNOWN).eval()
    x, t, rung = torch.randn(1, 4, 8), torch.tensor([500]), torch.tensor([1])
    fat, tumour, none = (edm.predict(x, t, rung, label) for label in (edm.told("fat", 1), edm.told("tumour", 1), None))
    assert (fat - tumour).abs().max() > 1e-3
    assert torch.equal(none, edm.predict(x, t, rung, torch.tensor([[0.0, 0.0, 1.0]])))
    assert (fat - none).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="fat or tumour"):
        edm.told("fatt", 1)
    with pytest.raises(ConfigError, match="was told no labels"):
        build_edm().told("fat", 1)


def test_labels_are_dropped_with_the_magnification_and_alone_and_never_in_validation():
    trainable, batch = build(labels=TABLE, label=KNOWN), with_slides(make_batch(3000))
    seen = []
    trainable.edm.predict = lambda x, t, rung, label: seen.append((rung, label)) or x
    assert trainable.columns == ("grid", "meta")
    trainable(batch, seed=0)
    (rung, label), has_one = seen[0], torch.arange(3000) % 3 == 0
    is_null, is_told = rung == trainable.edm.null_rung, label[:, 0] == 1
    assert not is_told[~has_one].any()
    assert not is_told[is_null].any()
    assert is_told[has_one].float().mean().item() == pytest.approx(0.9 * 0.9, abs=0.03)
    assert torch.equal(label[is_told][:, 1:], torch.eye(2)[(torch.arange(3000) % 2)[is_told]])
    trainable.eval()(batch, seed=0)
    assert torch.equal(seen[1][1][:, 0] == 1, has_one)


def test_every_parameter_of_an_edm_that_is_told_labels_is_trained():
    trainable, batch = build(labels=TABLE, label=KNOWN).train(), with_slides(make_batch(60))
    trainable(batch, seed=0)["loss_per_sample"].mean().backward()
    assert all(p.grad is not None for _, p in trainable.trained_parameters())
    assert trainable.extra_state()["label_names"] == ["fat", "tumour"]


def test_samples_follow_their_label_and_guidance_leads_away_from_none():
    edm, numbers = build_edm(label=KNOWN).eval(), torch.arange(4)
    rung = torch.tensor([0, 1, 2, 0])
    options = {"seed": 3, "solver": make_solver(), "num_steps": 4}
    told = {"label": edm.told("fat", 4)}
    draws = [
        edm.sample(rung, numbers, guidance_scale=1.75, **options, **told),
        edm.sample(rung, numbers, guidance_scale=1, **options, **told),
        edm.sample(rung, numbers, guidance_scale=1.75, **options),
        edm.sample(rung, numbers, guidance_scale=0, **options, **told),
        edm.sample(rung, numbers, guidance_scale=0, **options),
    ]
    assert all((draws[0] - other).abs().max() > 1e-3 for other in draws[1:])
    assert torch.equal(draws[3], draws[4])
    part = edm.sample(rung[2:], numbers[2:], guidance_scale=1.75, **options, label=edm.told("fat", 2))
    assert torch.allclose(part, draws[0][2:], atol=1e-5)


def test_numbers_are_standardised_by_those_of_training_slides():
    kind = option_of("label", "vector", file="v.csv").make(Label)
    edm = build_edm(label=KnownLabels(kind, ("a", "b"))).eval()
    edm.fit_labels(torch.tensor([[10.0, 3.0], [30.0, 3.0]]))
    assert (edm.label_token.mean.tolist(), edm.label_token.std.tolist()) == ([20, 3], [10, 1])
    classes = build_edm(label=KNOWN)
    classes.fit_labels(torch.eye(2))
    assert classes.label_token.mean.tolist() == [0, 0]
