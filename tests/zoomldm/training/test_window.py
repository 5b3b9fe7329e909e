"""The window's means, and what stops a run."""

import pytest
import torch
from lightning_fabric import Fabric

from tests.helpers.settings import make_ladder
from zoomldm.errors import UserError
from zoomldm.training.window import Window

LADDER = make_ladder(num_rungs=3)


@pytest.fixture(scope="module")
def fabric():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return fabric


def window_of(*steps, norm=2.0) -> Window:
    """A window of steps, each a list of (loss, rung)."""
    window = Window(LADDER, torch.device("cpu"))
    for step in steps:
        losses, rungs = zip(*step)
        window.add({"loss_per_sample": torch.tensor(losses), "other": torch.tensor(sum(losses))}, torch.tensor(rungs))
        window.end_step(torch.tensor(norm))
    return window


def test_means_are_over_samples_and_by_magnification(fabric):
    metrics = window_of([(1.0, 0), (3.0, 2)], [(5.0, 0), (7.0, 0)]).report(fabric)
    assert metrics["loss"] == 4.0
    assert metrics["loss/20x"] == pytest.approx(13 / 3)
    assert metrics["loss/5x"] == 3.0
    assert "loss/10x" not in metrics
    assert (metrics["other"], metrics["gradient_norm"]) == (8.0, 2.0)


def test_a_report_begins_a_new_window(fabric):
    window = window_of([(1.0, 0)])
    window.report(fabric)
    window.add({"loss_per_sample": torch.tensor([9.0])}, torch.tensor([1]))
    window.end_step(torch.tensor(0.5))
    assert window.report(fabric) == {"loss": 9.0, "loss/10x": 9.0, "gradient_norm": 0.5}


def test_a_window_goes_on_from_its_state(fabric):
    steps = [[(1.0, 0), (2.5, 1)], [(0.1, 2)], [(0.7, 1)]]
    straight = window_of(*steps)
    first = window_of(*steps[:2])
    resumed = window_of()
    resumed.load_state_dict(first.state_dict(fabric), fabric)
    resumed.add({"loss_per_sample": torch.tensor([0.7]), "other": torch.tensor(0.7)}, torch.tensor([1]))
    resumed.end_step(torch.tensor(2.0))
    assert resumed.report(fabric) == straight.report(fabric)


def test_a_window_of_the_first_version_had_rows_to_spare(fabric):
    straight = window_of([(1.0, 0), (2.5, 1)], [(0.1, 2)])
    saved = straight.state_dict(fabric)
    for name in ("sums", "counts", "gradient_norms"):
        saved[name] = torch.cat([saved[name], torch.zeros(2, *saved[name].shape[1:], dtype=torch.float64)])
    resumed = window_of()
    resumed.load_state_dict(saved, fabric)
    assert resumed.report(fabric) == straight.report(fabric)


def test_a_loss_that_is_no_number_is_placed(fabric):
    window = window_of([(1.0, 0)], [(float("inf"), 2), (1.0, 0)], [(float("nan"), 0)])
    with pytest.raises(UserError, match=r"step 42: .*\(5x\); nothing saved"):
        window.check(fabric, 43, "nothing saved")
    window_of([(1.0, 0)]).check(fabric, 1, "")


def test_a_gradient_that_is_no_number_is_noticed_before_the_loss_is(fabric):
    with pytest.raises(UserError, match="in the gradient only"):
        window_of([(1.0, 0)], norm=float("inf")).check(fabric, 1, "")
