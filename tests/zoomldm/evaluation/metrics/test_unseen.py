"""What copies its training patches lies near them and far from those of patients that no model saw."""

import numpy as np
import pytest

from tests.helpers.toy_evaluation import make_metrics, toy_evaluator
from zoomldm.evaluation.metrics.base import Compared
from zoomldm.evaluation.result import RowInfo


def compared(vectors: np.ndarray, reference: np.ndarray, held_out: np.ndarray | None) -> Compared:
    groups = [np.arange(len(x)) % 20 for x in (vectors, reference, reference if held_out is None else held_out)]
    return Compared(
        row=RowInfo(name="oracle", title="oracle", is_synthetic=True),
        vectors=vectors,
        reference=reference,
        pairs=None,
        members=(groups[0], groups[1]),
        pair_members=groups[0],
        embeddings=None,
        paired_embeddings=None,
        _training=lambda: reference,
        _held_out=lambda: None if held_out is None else (held_out, groups[2]),
    )


def test_a_copy_is_as_far_from_held_out_patches_as_the_patches_that_it_copies():
    rng, (metric,) = np.random.default_rng(0), make_metrics("unseen")
    train, held_out = rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 1.0
    found = metric.measure(compared(train + 1e-3, train, held_out))
    assert found["frechet"].value == pytest.approx(4.0, rel=0.3)  # |μₐ - μ_b|² of a shift by one in four dimensions
    assert found["frechet"].error < 2
    assert (
        found["kid"].value > 10 * metric.measure(compared(rng.normal(size=(200, 4)) + 1, train, held_out))["kid"].value
    )
    assert metric.measure(compared(train, train, None)) is None


def test_every_row_but_the_held_out_patches_themselves_has_it():
    evaluator = toy_evaluator(rows=["halves", "held_out", "oracle"], magnifications=[20])
    evaluator.metrics = make_metrics("unseen")
    evaluation = evaluator.run(run_name="toy")
    assert set(evaluation.measured("unseen")) == {"halves", "oracle"}
    assert "fd_texture.unseen.kid/oracle/20x" in evaluation.metrics()
