"""experiments/augmentation: what its figures and errors mean."""

import numpy as np
import pytest
import torch

from tests.helpers.experiments import experiment_script


@pytest.fixture(scope="module")
def experiment():
    return experiment_script("augmentation/augmentation.py")


def patches(experiment, num=60, seed=0):
    """Three classes, each of a colour of its own, of four patients."""
    classes = torch.arange(num) % 3
    noise = torch.randn(num, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    images = 0.1 * noise + 0.8 * torch.eye(3)[classes][:, :, None, None]
    return experiment.Patches(images, classes, np.array([f"p{i % 4}" for i in range(num)]))


def test_a_classifier_learns_colours_and_its_table_counts_every_patch(experiment, monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 30)
    model = experiment.trained_on([patches(experiment)], num_classes=3, seed=0)
    table = experiment.confusion(model, patches(experiment, seed=1), 3)
    assert table.shape == (4, 3, 3)
    assert table.sum((1, 2)).tolist() == [15] * 4
    assert experiment.balanced(table.sum(0)) > 0.9


def test_the_few_are_as_many_of_each_class_and_others_by_seed(experiment):
    few, others = (experiment.few_of(patches(experiment), 5, seed) for seed in (0, 1))
    assert torch.bincount(few.classes).tolist() == [5, 5, 5]
    assert not torch.equal(few.images, others.images)


def test_a_rare_class_counts_as_much_as_a_frequent_one(experiment):
    assert experiment.balanced(np.array([[90, 10], [1, 1]])) == pytest.approx((0.9 + 0.5) / 2)


def test_errors_are_of_patients_and_of_seeds_together(experiment):
    same = np.tile(np.array([[8, 2], [1, 9]]), (3, 4, 1, 1))
    assert experiment.with_error(same, experiment.balanced) == (pytest.approx(0.85), pytest.approx(0))
    seeds = np.stack([same[0] * [[[1, 0], [0, 1]]], same[0], same[0]])
    values = [1, 0.85, 0.85]
    expected = np.std(values, ddof=1) / 3**0.5
    assert experiment.with_error(seeds, experiment.balanced)[1] == pytest.approx(expected)
    patient = same[:1].copy()
    patient[0, 0] = [[2, 8], [1, 9]]
    left_out = np.array([0.85, *[((2 + 8 + 8) / 30 + 0.9) / 2] * 3])
    jackknife = (3 / 4 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    assert experiment.with_error(patient, experiment.balanced)[1] == pytest.approx(jackknife)
