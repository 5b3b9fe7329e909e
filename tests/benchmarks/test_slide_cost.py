"""What a slide costs by counting: small plans, counted by hand."""

from benchmarks.slide_cost import Passes, composed
from zoomldm.diffusion.solvers.ddim import DDIM


def passes(*words):
    return Passes.of(
        composed("sampling.steps=10", "agreement.until=0.5", *words), DDIM(eta=0.0, spacing="even", last_alpha_bar=None)
    )


def test_one_patch_takes_a_window_a_step_and_two_in_the_second_half():
    assert passes("root=20") == Passes(15, 0, 1)


def test_four_children_lie_in_four_windows_or_nine_and_are_corrected_in_the_first_half():
    root, children = Passes(15, 0, 1), (10 * 4 + 5 * 9, 4 * (1 + 2 * 5), 4 * (1 + 5))
    both = passes("root=10")
    assert both == Passes(*((own + four) / 5 for own, four in zip(vars(root).values(), children)))


def test_halos_are_drawn_twice_and_a_level_is_not_corrected_without_agreement():
    assert passes("root=10", "block=2", "roots=2x2").decode > passes("root=10", "roots=2x2").decode
    without = passes("root=10", "agreement.until=1")
    assert without.decode == 1
    assert without.unet == (15 + 10 * 4 + 5 * 9) / 5


def test_coarse_levels_take_their_own_steps_and_both_passes_of_guidance():
    words = ("root=2.5", "target=2.5", "coarse.steps=4", "coarse.guidance_scale=2")
    assert passes(*words) == Passes(2 * (4 + 2), 0, 1)
    assert passes(*words, "coarse.to=null") == Passes(15, 0, 1)
