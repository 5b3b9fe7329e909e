"""What is drawn on either side of a comparison, by protocol."""

import numpy as np
import pytest

from tests.helpers.toy_evaluation import ToyModel, ToySource, toy_evaluator
from zoomldm.errors import UserError
from zoomldm.evaluation.protocols.base import Drawn
from zoomldm.evaluation.protocols.paper import Paper
from zoomldm.evaluation.protocols.strict import Strict


def drawn(*numbers: int) -> Drawn:
    return Drawn(**dict(zip(("num", "num_conditions", "num_reference", "first_reference"), numbers)))


@pytest.mark.parametrize(
    ("protocol", "available", "expected"),
    [
        (Strict(), 12_000_000, (10_000, 10_000, 10_000, 10_000)),
        (Strict(), 7_000, (3_500, 3_500, 3_500, 3_500)),
        (Paper(), 12_000_000, (10_000, 10_000, 10_000, 10_000)),
        (Paper(), 15_000, (10_000, 10_000, 10_000, 5_000)),
        (Paper(), 2_500, (10_000, 2_500, 2_500, 0)),
    ],
)
def test_what_is_drawn(protocol, available, expected):
    assert protocol.drawn(10_000, available) == drawn(*expected)


def test_sets_overlap_no_more_than_they_must():
    assert [Paper().drawn(100, n).num_shared for n in (50, 100, 150, 200, 300)] == [50, 100, 50, 0, 0]
    assert all(Strict().drawn(100, n).num_shared == 0 for n in (50, 100, 150, 300))


class Recording(ToyModel):
    """Remember the numbers of the noise."""

    def __init__(self) -> None:
        super().__init__(0.05)
        self.numbers: list[int] = []

    def sample(self, tokens, sample_numbers, **how):
        self.numbers += [int(number) for number in sample_numbers]
        return super().sample(tokens, sample_numbers, **how)


@pytest.fixture(scope="module")
def paper():
    model = Recording()
    evaluator = toy_evaluator(
        model=model,
        source=ToySource(num_train=70, num_patients=7),
        rows=["halves", "reconstructions", "oracle", "shuffled"],
        protocol=Paper(),
        num_per_magnification=150,
        batch_size=32,
    )
    return evaluator.run(run_name="toy"), model


def test_conditions_are_used_again_with_new_noise(paper):
    evaluation, model = paper
    for label in evaluation.magnifications:
        assert evaluation.cell("oracle", label).num == 150
        assert evaluation.cell("oracle", label).num_reference == 70
        assert evaluation.cell("reconstructions", label).num == 70
    assert len(model.numbers) == 3 * 2 * 150
    assert len(set(model.numbers)) == 3 * 150  # oracle and shuffled share their noise


def test_a_patch_stays_beside_its_own_reference(paper):
    evaluation, _ = paper
    for label in evaluation.magnifications:
        assert evaluation.cell("oracle", label).paired.value < evaluation.cell("shuffled", label).paired.value / 2


def test_the_result_says_what_is_reused(paper):
    evaluation, _ = paper
    assert evaluation.settings["protocol"] == "paper"
    assert evaluation.drawn["20x"] == {
        "real patches that give conditions": "70",
        "times that a condition is used, at most": "3",
        "real patches of the reference": "70",
        "of them, also give conditions": "70",
        "images of real patches": "as stored for training",
        "errors are a jackknife over": "7 patients in 7 groups",
    }
    assert evaluation.cells["fd_texture"]["halves"] == {}
    assert any("no two sets of real patches" in note for note in evaluation.notes)


def test_memorisation_searches_a_small_magnification_whole():
    def searched(**plan):
        found = toy_evaluator(
            rows=["oracle"], source=ToySource(num_train=300), num_per_magnification=100, magnifications=[20], **plan
        ).run(run_name="toy")
        return found.cell("oracle", "20x").of("memorisation")["num_training"].value

    assert searched() == 300
    assert searched(all_training_up_to=299) == 200


def test_a_magnification_without_patches_that_was_asked_for():
    class Empty(ToySource):
        def count(self, split, magnification):
            return 0 if magnification == 5 else super().count(split, magnification)

    with pytest.raises(UserError, match=r"5x has 0 training patches, evaluation=strict leaves 0"):
        toy_evaluator(source=Empty(), magnifications=[5]).run(run_name="x")
    found = toy_evaluator(source=Empty(), rows=["halves"], num_per_magnification=40).run(run_name="x")
    assert found.magnifications == ["20x", "10x"]
    assert "5x: 0 training patches; left out" in found.notes


def test_verdicts_rest_on_what_the_numbers_allow():
    found = toy_evaluator(rows=["halves", "oracle"], num_per_magnification=70, magnifications=[20]).run(run_name="x")
    assert found.cell("oracle", "20x").judged_by == "kid"
    assert found.cell("oracle", "20x").measures["kid"].error > 0
    (claim,) = found.claims
    assert claim.verdict != "not judged"
    assert "by KID" in claim.details[0]


def test_errors_are_over_patches_where_there_are_few_patients():
    found = toy_evaluator(source=ToySource(num_patients=2), rows=["halves"], magnifications=[20]).run(run_name="x")
    assert found.drawn["20x"]["errors are a jackknife over"] == "patches of the same patients (2)"
    assert any("say nothing of other patients" in note for note in found.notes)
    assert len(found.cell("halves", "20x").distance.replicates) == 20
    assert np.isfinite(found.cell("halves", "20x").distance.error)
