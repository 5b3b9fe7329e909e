"""Guidance: what scales 0 and 1 mean, and one pass for both predictions."""

import pytest
import torch

from zoomldm.diffusion.guidance import drop_condition, guide, guided, timesteps_within


class Recorder:
    """Predict x + condition and remember the batch sizes."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x, t, condition):
        self.sizes.append(len(x))
        return x + condition


X, T = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
CONDITION, NULL = torch.full((3, 2), 2.0), torch.full((3, 2), -1.0)


@pytest.mark.parametrize(("scale", "expected", "size"), [(0, -1.0, 3), (1, 2.0, 3), (1.75, -1 + 1.75 * 3, 6)])
def test_scales(scale, expected, size):
    predict = Recorder()
    out = guided(predict, CONDITION, NULL, scale)(X, T)
    assert torch.equal(out, torch.full((3, 2), expected))
    assert predict.sizes == [size]


@pytest.mark.parametrize(("timestep", "is_guided"), [(199, False), (200, True), (500, True), (800, True), (801, False)])
def test_outside_an_interval_the_condition_counts_once_by_one_pass(timestep, is_guided):
    predict = Recorder()
    out = guided(predict, CONDITION, NULL, 1.75, within=timesteps_within((0.2, 0.8), 1000))(X, T + timestep)
    assert torch.equal(out, torch.full((3, 2), -1 + 1.75 * 3 if is_guided else 2.0))
    assert predict.sizes == [6 if is_guided else 3]


def test_equal_predictions_are_not_changed_by_any_scale():
    a = torch.randn(4, 3)
    assert torch.allclose(guide(a, a, 7.5), a)


def test_dropped_samples_get_the_null_condition_and_the_others_keep_theirs():
    out = drop_condition(CONDITION, NULL, torch.tensor([True, False, True]))
    assert out[:, 0].tolist() == [-1, 2, -1]


def test_null_condition_gets_a_gradient_only_from_dropped_samples():
    null = torch.zeros(2, requires_grad=True)
    drop_condition(CONDITION, null.expand(3, 2), torch.tensor([True, False, True])).sum().backward()
    assert null.grad.tolist() == [2, 2]
