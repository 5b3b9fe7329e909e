"""The descriptor ``texture`` is fixed, finite, and sees blur, colour, structure and scale."""

import numpy as np
import pytest

from tests.helpers.toy_evaluation import blurred, toy_patches
from zoomldm.errors import UserError
from zoomldm.evaluation.distances import SAMPLES_PER_DIMENSION, frechet
from zoomldm.features.texture import BOUND, COMPONENTS, TextureDescriptor

REAL = toy_patches(400)
HALVES = REAL[:200], REAL[200:]
describe = TextureDescriptor()


def distance(changed: np.ndarray) -> float:
    return frechet(describe(changed), describe(HALVES[1]))


FLOOR = distance(HALVES[0])


def shuffled_pixels(patches: np.ndarray) -> np.ndarray:
    order = np.random.default_rng(0).permutation(32 * 32)
    return patches.reshape(len(patches), -1, 3)[:, order].reshape(patches.shape)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("a slight blur", blurred(HALVES[0], 0.6)),
        ("a strong blur", blurred(HALVES[0], 2.0)),
        ("a cast of colour", np.clip(HALVES[0].astype(int) + np.array([0, 25, 0]), 0, 255).astype(np.uint8)),
        ("grey", HALVES[0].mean(3, keepdims=True).repeat(3, 3).astype(np.uint8)),
        ("half the contrast", (HALVES[0] * 0.5 + 90).astype(np.uint8)),
        (
            "noise",
            np.clip(HALVES[0] + np.random.default_rng(1).normal(0, 15, HALVES[0].shape), 0, 255).astype(np.uint8),
        ),
        ("the same pixels elsewhere", shuffled_pixels(HALVES[0])),
        ("stripes", np.repeat(HALVES[0][:, :1], 32, axis=1)),
        ("another scale", HALVES[0][:, ::2, ::2].repeat(2, 1).repeat(2, 2)),
    ],
)
def test_every_change_lies_above_the_halves(name, changed):
    assert distance(changed) > 3 * FLOOR, name


def test_more_blur_is_further():
    distances = [distance(blurred(HALVES[0], sigma)) for sigma in (0.4, 0.8, 1.6)]
    assert distances == sorted(distances)


def test_a_mirror_changes_almost_nothing():
    assert distance(HALVES[0][:, :, ::-1]) < 1.5 * FLOOR


def test_small_enough_to_be_judged_by_a_demo():
    assert describe.dim == len(COMPONENTS) <= 24
    assert SAMPLES_PER_DIMENSION * describe.dim <= 96


@pytest.mark.parametrize(
    "patches", [np.zeros((2, 32, 32, 3)), np.full((2, 64, 48, 3), 255), np.full((1, 256, 256, 3), 7)]
)
def test_flat_patches_of_any_side_are_finite(patches):
    vectors = describe(patches.astype(np.uint8))
    assert vectors.shape == (len(patches), describe.dim)
    assert np.isfinite(vectors).all()


def test_independent_of_the_batch():
    assert np.allclose(describe(REAL[:5])[3], describe(REAL[3:4])[0], atol=1e-4)


def test_small_patches_are_refused_with_a_remedy():
    with pytest.raises(UserError, match=r"32 px or more.*features=stats"):
        describe(np.zeros((1, 16, 16, 3), np.uint8))


def test_not_the_encoder_in_disguise():
    """No linear map of ``stats`` gives the vectors: a part of every component is its own."""
    from zoomldm.encoder.stats import StatsEncoder

    ours, theirs = describe(REAL), StatsEncoder()(REAL)
    design = np.c_[theirs, np.ones(len(theirs))]
    residual = ours - design @ np.linalg.lstsq(design, ours, rcond=None)[0]
    unexplained = residual.var(0) / ours.var(0)
    assert np.median(unexplained) > 0.02


def test_a_few_patches_of_glass_do_not_decide_a_distance():
    with_glass = np.concatenate([np.full_like(REAL[:2], 244), HALVES[0][2:]])
    assert np.abs(describe(with_glass)).max() < BOUND
    assert distance(with_glass) < 0.5 * distance(blurred(HALVES[0], 0.6))
