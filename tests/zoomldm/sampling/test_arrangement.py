"""Which conditions patches have: laws of the three arrangements, and of the way between two conditions."""

import pytest
import torch

from zoomldm.sampling.arrangement import OneEach, Strips, Variations, slerp

TOKENS = torch.randn(7, 3, 8, generator=torch.Generator().manual_seed(0))


def test_one_each_leaves_tokens_as_they_are():
    assert OneEach().conditions(range(2, 5)) == range(2, 5)
    assert torch.equal(OneEach().tokens(TOKENS[2:5], range(2, 5)), TOKENS[2:5])
    assert (OneEach().num_patches(9, None), OneEach().num_patches(9, 4)) == (9, 4)


def test_variations_share_a_condition_and_differ_in_noise():
    three = Variations(3)
    assert [three.blend(place).first for place in range(7)] == [0, 0, 0, 1, 1, 1, 2]
    assert [three.noise(place) for place in range(7)] == list(range(7))
    assert three.conditions(range(2, 7)) == range(3)
    assert torch.equal(three.tokens(TOKENS[:3], range(2, 7)), TOKENS[[0, 1, 1, 1, 2]])
    assert (three.num_patches(9, None), three.num_patches(9, 2)) == (9, 6)


def test_a_strip_leads_from_one_condition_to_the_next_under_one_noise():
    four = Strips(4)
    assert [four.noise(place) for place in range(8)] == [0] * 4 + [1] * 4
    made = four.tokens(TOKENS[:4], range(8))
    for place, end in ((0, 0), (3, 1), (4, 2), (7, 3)):
        torch.testing.assert_close(made[place], TOKENS[end])
    assert (four.num_patches(9, None), four.num_patches(3, None), four.num_patches(99, 5)) == (8, 4, 8)


@pytest.mark.parametrize("arrangement", [OneEach(), Variations(3), Strips(3)])
def test_patches_do_not_depend_on_how_they_are_cut_into_batches(arrangement):
    def in_batches(size):
        made = []
        for start in range(0, 6, size):
            places = range(start, min(6, start + size))
            wanted = arrangement.conditions(places)
            made.append(arrangement.tokens(TOKENS[wanted.start : wanted.stop], places))
        return torch.cat(made)

    whole = in_batches(6)
    for size in (1, 2, 4, 5):
        torch.testing.assert_close(in_batches(size), whole)


def test_slerp_keeps_length_and_turns_evenly():
    a, b = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
    for part in (0.0, 0.25, 0.5, 1.0):
        angle = torch.tensor(part * torch.pi / 2)
        expected = 3 * torch.stack([angle.cos(), angle.sin()])
        torch.testing.assert_close(slerp(a, b, torch.tensor([part]))[0, 0], expected, atol=1e-6, rtol=0)


def test_slerp_between_equal_and_opposite_tokens_is_straight():
    a = torch.ones(1, 2, 4)
    torch.testing.assert_close(slerp(a, 2 * a, torch.tensor([0.5])), 1.5 * a)
    assert torch.isfinite(slerp(a, -a, torch.tensor([0.5]))).all()
