"""Windows over a region: each cell is predicted, shifted windows take the tokens under them, glass is left out."""

import pytest
import torch

from zoomldm.canvas.windows import TokenMap, predict_region, starts


@pytest.mark.parametrize(("length", "shift"), [(8, 0), (8, 4), (24, 0), (24, 4), (40, 4)])
def test_windows_cover_a_side_and_stay_inside(length, shift):
    covered = torch.zeros(length)
    for start in starts(length, 8, shift):
        assert 0 <= start <= length - 8
        covered[start : start + 8] += 1
    assert (covered >= 1).all()
    assert bool((covered == 1).all()) == (shift == 0 or length == 8)


def test_a_window_in_place_has_its_patchs_tokens_and_a_shifted_one_those_under_it():
    tokens, position = torch.randn(2, 3, 16, 5), torch.randn(16, 5)
    told = TokenMap.of(tokens, position)
    assert torch.allclose(told.at([(4, 8)])[0], tokens[1, 2], atol=1e-6)
    shifted = (told.at([(2, 2)])[0] - position).reshape(4, 4, 5)
    own = (tokens[0, 0] - position).reshape(4, 4, 5)
    below_right = (tokens[1, 1] - position).reshape(4, 4, 5)
    assert torch.allclose(shifted[:2, :2], own[2:, 2:], atol=1e-6)
    assert torch.allclose(shifted[2:, 2:], below_right[:2, :2], atol=1e-6)


def region(shifts, batch_size=64, needed=None, told=None):
    tokens = TokenMap.of(torch.randn(2, 3, 16, 5, generator=torch.Generator().manual_seed(0)), None)
    x = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(1))
    seen = []

    def predict(windows, t, own, beside):
        seen.append(len(windows))
        return (windows if beside is None else beside) + own.mean((1, 2))[:, None, None, None]

    options = {"window": 8, "shifts": shifts, "batch_size": batch_size, "needed": needed, "told": told}
    return x, predict_region(predict, x, torch.tensor(500), tokens, **options), seen


@pytest.mark.parametrize("shifts", [(0,), (4,), (0, 4)])
def test_the_size_of_batches_does_not_matter(shifts):
    _, whole, seen = region(shifts)
    _, parts, more = region(shifts, batch_size=1)
    assert torch.allclose(whole, parts, atol=1e-6)
    assert sum(seen) == len(more) > 1


def test_overlapping_predictions_are_averaged():
    x, said, _ = region((0, 4))
    assert (said - x).abs().max() < 1  # each is x and a small number of its window's tokens: no sums


def test_overlapping_windows_leave_no_step_at_their_borders():
    steps = {}
    for shifts in ((0,), (0, 4)):
        x, said, _ = region(shifts)
        change = (said - x)[0, 0].diff().abs()
        steps[shifts] = float(change[7::8].max() / change.sum())
    assert steps[0,] == pytest.approx(max(steps.values()))
    assert steps[0, 4] < 0.6 * steps[0,]


def test_windows_over_glass_alone_are_not_computed():
    needed = torch.zeros(2, 3, dtype=torch.bool)
    needed[0, 0] = True
    _, said, seen = region((0,), needed=needed)
    assert seen == [1]
    assert torch.equal(said[:, 8:], torch.zeros_like(said[:, 8:]))
    assert not torch.equal(said[:, :8, :8], torch.zeros_like(said[:, :8, :8]))


@pytest.mark.parametrize("shifts", [(0,), (4,), (0, 4)])
def test_a_window_is_told_what_lies_beside_it(shifts):
    told = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(2))
    _, plain, _ = region(shifts, told=told)
    _, more, _ = region(shifts, told=told + 1)
    assert torch.allclose(more, plain + 1, atol=1e-5)
    assert (plain - told).abs().max() < 1
