"""The learning rate is what the configuration says."""

import pytest
import torch

from tests.helpers.options import make_conditioner
from tests.helpers.settings import optim_settings
from tests.helpers.toy_training import ToyTrainable
from zoomldm.errors import ConfigError
from zoomldm.model.trainable import Trainable
from zoomldm.training.optim import (
    build_optimizer,
    first_names,
    learning_rate,
    load_optimizer,
    names_in_order,
    set_learning_rate,
)
from zoomldm.training.settings import OptimSettings


def made(**options) -> OptimSettings:
    return optim_settings(**{"lr": 1e-4, "batch_size": 600, "max_micro_batch": 200} | options)


def test_warm_up_is_linear_and_then_the_rate_is_constant():
    settings = made(warmup_steps=1000)
    rates = [learning_rate(settings, step, 10_000) for step in range(10_000)]
    assert rates[0] == pytest.approx(1e-7)
    assert rates[499] == pytest.approx(5e-5)
    assert set(rates[999:]) == {1e-4}


def test_cosine_falls_to_zero_after_the_warm_up():
    settings = made(warmup_steps=100, schedule="cosine")
    assert learning_rate(settings, 100, 1000) == pytest.approx(1e-4)
    assert learning_rate(settings, 550, 1000) == pytest.approx(5e-5)
    assert learning_rate(settings, 1000, 1000) == pytest.approx(0, abs=1e-12)


def test_the_rate_is_scaled_only_by_an_explicit_rule():
    assert made(batch_size=8).peak_lr == 1e-4
    assert made(batch_size=300, lr_scale="linear", lr_reference_batch=600).peak_lr == pytest.approx(5e-5)
    assert made(batch_size=150, lr_scale="sqrt", lr_reference_batch=600).peak_lr == pytest.approx(5e-5)


def test_every_fault_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        made(lr=0, schedule="linear", lr_scale="linear", clip_norm=-1, ema_decay=1.0)
    for name in ("optim.lr=0", "optim.schedule", "lr_reference_batch", "optim.clip_norm", "optim.ema_decay"):
        assert name in str(caught.value)


def test_the_optimiser_is_fused_adamw_whose_decay_spares_vectors():
    trainable = ToyTrainable()
    optimizer = build_optimizer(trainable, made(weight_decay=0.1, betas=[0.8, 0.9]))
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay[id(trainable.into.weight)] == 0.1
    assert decay[id(trainable.norm.bias)] == 0.0
    assert all(g["fused"] and g["betas"] == (0.8, 0.9) for g in optimizer.param_groups)
    set_learning_rate(optimizer, 3.0)
    assert {g["lr"] for g in optimizer.param_groups} == {3.0}


class Conditioned(Trainable):
    """A conditioner with every kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conditioner = make_conditioner(
            "film", num_rungs=3, grid_dim=6, resolution=16, widths=(4, 4, 4, 4), token_dim=8, position_embedding=True
        )


def test_embeddings_null_tokens_and_positions_are_not_decayed():
    trainable = Conditioned()
    names = {id(p): name.removeprefix("conditioner.") for name, p in trainable.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in trainable.param_groups())
    assert {"null", "position", "magnification.weight", "norm.weight", "blocks.0.norm1.weight"} <= plain
    assert {"project.weight", "out.weight", "blocks.0.conv1.weight", "blocks.0.film.0.weight"} <= decayed


def test_moments_go_by_name_also_those_of_the_first_version():
    trainable = Conditioned()
    optimizer = build_optimizer(trainable, made(weight_decay=0.1))
    now, first = names_in_order(trainable, optimizer), first_names(trainable)
    assert sorted(now) == sorted(first)
    assert now != first
    shapes = {name: p.shape for name, p in trainable.named_parameters()}
    state = {
        index: {
            "step": torch.tensor(7.0),
            "exp_avg": torch.full(shapes[name], float(index)),
            "exp_avg_sq": torch.ones(shapes[name]),
        }
        for index, name in enumerate(first)
    }
    load_optimizer(optimizer, {"state": state, "param_groups": []}, names=first, now=now)
    for name, parameter in trainable.named_parameters():
        moments = optimizer.state[parameter]
        assert (moments["exp_avg"] == first.index(name)).all()
        assert moments["exp_avg"].shape == parameter.shape
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}
