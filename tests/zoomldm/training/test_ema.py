"""The average has its closed form, and its exchange with the weights leaves no trace."""

import contextlib

import pytest
import torch

from tests.helpers.toy_training import ToyTrainable
from zoomldm.training.ema import Ema, decay_at


def test_decay_ramps_up_to_its_limit():
    assert decay_at(0, 0.9999) == pytest.approx(0.1)
    assert decay_at(90, 0.9999) == pytest.approx(91 / 100)
    assert decay_at(10**7, 0.9999) == 0.9999


def test_the_average_is_the_weighted_sum_of_all_weights():
    trainable = ToyTrainable()
    ema = Ema(trainable, 0.95)
    weight = trainable.out.bias
    values, decays = [weight.detach().clone()], []
    for n in range(50):
        with torch.no_grad():
            weight.add_(torch.randn_like(weight))
        ema.update(n)
        values.append(weight.detach().clone())
        decays.append(decay_at(n, 0.95))
    factors = [(1 - d) * torch.tensor(decays[i + 1 :]).prod() for i, d in enumerate(decays)]
    expected = torch.tensor(decays).prod() * values[0] + sum(f * v for f, v in zip(factors, values[1:]))
    torch.testing.assert_close(ema.state_dict()["out.bias"], expected, rtol=1e-5, atol=1e-6)


def test_applied_puts_the_averages_in_place_and_takes_them_out_again():
    trainable = ToyTrainable()
    ema = Ema(trainable, 0.9)
    with torch.no_grad():
        trainable.out.bias.add_(1.0)
    weight, average = trainable.out.bias.detach().clone(), ema.state_dict()["out.bias"].clone()
    with contextlib.suppress(ZeroDivisionError), ema.applied():
        assert torch.equal(trainable.out.bias, average)
        raise ZeroDivisionError
    assert torch.equal(trainable.out.bias, weight)
    assert torch.equal(ema.state_dict()["out.bias"], average)


def test_frozen_weights_are_not_averaged():
    trainable = ToyTrainable()
    trainable.out.requires_grad_(False)
    assert "out.bias" not in Ema(trainable, 0.9).state_dict()
