"""Figures of drawn slides: laws of borders, agreement and errors, on made-up pixels."""

import numpy as np
import pytest

from benchmarks.canvas_figures import Area, Figures, halved, over_roots, shrunk, tables, with_tissue
from zoomldm.features.texture import TextureDescriptor

LABELS = ("20x",)


def noise(seed, side=128):
    return np.random.default_rng(seed).integers(60, 200, (side, side, 3)).astype(np.uint8)


def figures(reference, num=128):
    return Figures(TextureDescriptor(), {"20x": reference}, {"20x": 0.5}, num=num)


def of(areas):
    reference = TextureDescriptor().describe(np.stack([noise(k, 32) for k in range(100)]))
    return dict(figures(reference).of([{"20x": [area]} for area in areas], "20x"))


def test_borders_are_those_inside_unless_there_is_a_step():
    plain, stepped = noise(0), noise(0)
    stepped[:, 32:64] -= 50
    assert of([Area(plain)])["borders"][0] == pytest.approx(1, abs=0.05)
    assert of([Area(stepped)])["borders"][0] > 1.02
    assert "borders" not in of([Area(noise(0, 32))])  # a single patch has none


def test_agreement_is_what_the_means_lack_of_the_level_above():
    image = noise(0)
    above = halved(image)
    assert of([Area(image, above)])["agreement"][0] == pytest.approx(0)
    assert of([Area(image, above + 5)])["agreement"][0] == pytest.approx(5)
    assert "agreement" not in of([Area(image)])


def test_rows_of_the_same_kind_are_near_and_others_far():
    alike = [Area(noise(200 + k)) for k in range(8)]
    smooth = [Area(np.kron(noise(300 + k, 32), np.ones((4, 4, 1), np.uint8))) for k in range(8)]
    near, far = of(alike), of(smooth)
    assert near["patches"] == (128, None)
    assert near["fd_texture"][0] < 0.2 * far["fd_texture"][0]
    assert near["fd_texture"][1] > 0
    assert far["precision"][0] < near["precision"][0]


def test_too_few_patches_have_no_distance():
    assert "fd_texture" not in of([Area(noise(0, 64))])


def test_glass_is_no_patch():
    image = noise(0, 64)
    image[:32, :32] = 250
    assert len(with_tissue(Area(image), 0.5)) == 3


def test_whole_roots_are_brought_to_a_patch_and_compared_with_patches_of_the_lowest_magnification():
    reference = TextureDescriptor().describe(np.stack([shrunk(noise(k)) for k in range(100)]))
    roots = [{"20x": [Area(noise(200 + k), None, is_whole)]} for k, is_whole in enumerate([True] * 4 + [False])]
    (name, (value, error)) = next(figures(reference).of_whole(roots, "20x", "20x"))
    assert name == "whole"
    assert abs(value) < 0.1 + 3 * error
    assert not list(figures(reference).of_whole(roots[2:], "20x", "20x"))


def test_an_error_is_that_of_leaving_one_out():
    value, error = over_roots(np.mean, [1.0, 2.0, 3.0, 6.0])
    assert (value, error) == pytest.approx((3, np.std([1, 2, 3, 6], ddof=1) / 2))
    assert over_roots(np.mean, [1.0, 2.0]) == (1.5, None)


def test_a_table_has_a_row_each_and_what_is_missing_is_said():
    lines = list(tables({"borders": {"slide": {"20x": (1.234, 0.05)}, "single": {}}}, LABELS))
    assert lines[-2:] == ["| slide | 1.23 ± 0.05 |", "| single | – |"]
