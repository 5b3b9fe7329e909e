"""Rows that ask a trained model otherwise: told no or a wrong magnification, under other guidance, steps or solvers."""

import pytest
import torch

from tests.helpers.toy_evaluation import ToyModel, make_metrics, make_rows, toy_evaluator
from zoomldm.cond.film import FiLMConditioner
from zoomldm.data.batch import GridGroup

SIZES = {"grid_dim": 3, "resolution": 16, "widths": [4, 4, 4, 4], "token_dim": 4, "projection": None}


def film() -> FiLMConditioner:
    torch.manual_seed(0)
    made = FiLMConditioner(num_rungs=3, position_embedding=False, **SIZES).eval()
    for block in made.blocks:
        for layer in block.film:
            torch.nn.init.normal_(layer.weight)
    return made


def test_a_conditioner_that_is_not_told_gives_the_same_tokens_at_every_magnification():
    made, grids = film(), [GridGroup(torch.arange(2), torch.randn(1, 2, 2, 3).expand(2, 2, 2, 3))]
    rungs = torch.tensor([0, 2])
    told = made(grids, rungs)
    assert not torch.allclose(told[0], told[1])
    with made.untold():
        untold = made(grids, rungs)
    assert torch.allclose(untold[0], untold[1])
    assert torch.equal(made(grids, rungs), told), "told again afterwards"


class Listening(ToyModel):
    """A toy whose patches are grey where it is not told the right magnification."""

    def __init__(self) -> None:
        super().__init__(0.05)
        self.conditioner, self.told = film(), []

    def tokens(self, grids, rung):
        self.told.append((int(rung[0]), self.conditioner.is_told))
        return super().tokens(grids, rung)


def evaluated(*rows, model):
    evaluator = toy_evaluator(rows=rows, model=model, magnifications=[20], num_per_magnification=100)
    evaluator.metrics = make_metrics("paired")
    return evaluator, evaluator.run(run_name="toy")


def test_rows_tell_the_model_nothing_or_something_else():
    model = Listening()
    _, found = evaluated("oracle", "untold", "wrong_magnification", model=model)
    assert found.rows == ["oracle", "untold", "wrong_magnification"]
    assert list(dict.fromkeys(model.told)) == [(0, True), (0, False), (1, True)]
    assert sum("each patch against its own reference" in claim.statement for claim in found.claims) == 2


def test_without_a_magnification_there_is_nothing_to_tell():
    _, found = evaluated("oracle", "untold", "wrong_magnification", model=ToyModel(0.05))
    assert found.rows == ["oracle"]
    assert sum("left out" in note for note in found.notes) == 2


@pytest.mark.parametrize(("option", "num"), [("guidance", 5), ("solvers", 8)])
def test_a_row_is_a_way_of_sampling(option, num):
    class Noting(ToyModel):
        def sample(self, *args, solver, num_steps, guidance_scale, **options):
            seen.append((type(solver).__name__, num_steps, guidance_scale))
            return super().sample(*args, solver=solver, num_steps=num_steps, guidance_scale=guidance_scale, **options)

    seen: list = []
    evaluator, found = evaluated("oracle", option, model=Noting(0.05))
    ways = list(dict.fromkeys(seen))
    assert len(found.rows) == 1 + num
    assert len(ways) == 1 + num, "the usual way, and one of its own for each row"
    assert len(set(evaluator.row_ids().values())) == 1 + num
    assert len({info.title for info in found.row_infos}) == 1 + num
    usual = evaluator.bench.generator.sampling
    changed = "guidance_scale" if option == "guidance" else "steps"
    assert getattr(usual, changed) == ways[0][2 if option == "guidance" else 1]
    assert {row.name for row in make_rows(option)} == set(found.rows[1:])
