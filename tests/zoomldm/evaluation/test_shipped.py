"""The row of the model that ships: its own model and autoencoder, the run's conditions; left out with the reason."""

import numpy as np
import pytest

from tests.helpers.options import make_solver
from tests.helpers.toy_evaluation import ToyAutoencoder, ToyModel, synthesised_and_run, toy_evaluator
from zoomldm.evaluation.bench import ShippedModel
from zoomldm.evaluation.report.pictures import figure_2
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.sampling.settings import Sampling

ROWS = ("halves", "oracle", "shipped")


def shipped(model=None, why_not=None):
    def make():
        sampling = Sampling(solver=make_solver(), steps=2, guidance_scale=1.0, guidance_interval=None)
        return PatchGenerator(model, ToyAutoencoder(), sampling=sampling)

    return ShippedModel(why_not=why_not, identity={"zoomldm.safetensors": "s"}, make=make)


def test_a_better_model_that_ships_lies_below_the_run(tmp_path):
    evaluator = toy_evaluator(tmp_path, rows=ROWS, model=ToyModel(2), shipped=shipped(ToyModel(0.05)))
    found = synthesised_and_run(evaluator)
    for label in found.magnifications:
        assert found.cell("shipped", label).distance.value < found.cell("oracle", label).distance.value


def test_without_it_the_row_is_left_out_and_says_why():
    found = toy_evaluator(rows=ROWS, shipped=shipped(why_not="no packed model in there")).run(run_name="toy")
    assert all(found.cell("shipped", label) is None for label in found.magnifications)
    assert any("no packed model in there" in note for note in found.notes)


def test_the_panel_has_a_third_column():
    patches = {"20x": np.zeros((2, 32, 32, 3), np.uint8)}
    plain, more = figure_2(patches, patches), figure_2(patches, patches, shipped=patches)
    assert more.whole.width > plain.whole.width


@pytest.mark.parametrize("num_columns", [2, 3])
def test_panels_are_whole_on_a_page_and_on_a_telephone_at_full_size(num_columns):
    patches = {f"{number}x": np.zeros((2, 32, 32, 3), np.uint8) for number in range(8)}
    shown = figure_2(patches, patches, shipped=patches if num_columns == 3 else None)
    assert shown.whole.width <= 1024
    assert len(shown.parts) == 8
    assert num_columns * 96 <= max(part.width for part in shown.parts) <= 362
