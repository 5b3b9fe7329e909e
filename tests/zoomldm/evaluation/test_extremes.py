"""Nearest and farthest patches are those that they are called, beside their own references."""

import numpy as np

from tests.helpers.toy_evaluation import ToyModel, synthesised_and_run, toy_evaluator
from zoomldm.evaluation.extremes import FARTHEST, NEAREST, NUM, REFERENCE, _picked


def test_the_farthest_are_farther_than_the_nearest(tmp_path):
    evaluator = toy_evaluator(tmp_path, rows=("halves", "oracle"), model=ToyModel(1))
    found = synthesised_and_run(evaluator)
    kept, judge = evaluator.bench.examples, evaluator.bench.descriptors[0]
    for label in found.magnifications:
        errors = {}
        for kind in (NEAREST, FARTHEST):
            synthetic, real = kept.get(kind, label), kept.get(kind + REFERENCE, label)
            assert synthetic.shape == real.shape
            assert len(synthetic) == NUM
            errors[kind] = np.square(judge(synthetic) - judge(real)).sum(1)
        assert errors[NEAREST].max() <= errors[FARTHEST].min() + 1e-6


def test_images_are_picked_from_batches_in_the_order_of_their_places():
    batches = [np.arange(4)[:, None], np.arange(4, 6)[:, None]]
    assert _picked(batches, np.array([5, 0, 3])).ravel().tolist() == [5, 0, 3]
