"""A run's copy on a server ends as the run did, whatever ended it."""

import os
import signal

import pytest
from mlflow import MlflowClient

from tests.helpers.toy_data import make_toy_data
from zoomldm import composing
from zoomldm.commands.train import train
from zoomldm.errors import UserError
from zoomldm.runs.run import Run
from zoomldm.training import loop


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("train")
    make_toy_data(root / "data" / "demo", train=(16, 8), test=(4, 4), patch_px=32, columns=("image", "grid", "meta"))
    return root


def ends(error: BaseException | None):
    """Return a step that ends so, and a real one in which a signal comes."""

    def step(job, batches, number):
        if error is None:
            os.kill(os.getpid(), signal.SIGTERM)
            return TRAIN_STEP(job, batches, number)
        raise error

    return step


TRAIN_STEP = loop.train_step


@pytest.mark.parametrize(
    ("name", "step", "leaves_by", "status"),
    [
        ("finished", TRAIN_STEP, None, "FINISHED"),
        ("faulty", ends(UserError("the loss is no number")), UserError, "FAILED"),
        ("interrupted", ends(KeyboardInterrupt()), KeyboardInterrupt, "KILLED"),
        ("preempted", ends(None), SystemExit, "KILLED"),
    ],
)
def test_the_tracked_run_ends_as_the_run_does(root, monkeypatch, name, step, leaves_by, status):
    monkeypatch.setattr(loop, "train_step", step)
    words = [f"paths.root={root}", "model=autoencoder_tiny", f"run_name={name}", "fabric=cpu", "train.steps=2"]
    words += ["data.ladder.num_rungs=2", "optim.batch_size=4", "train.sample_every=0", "fabric.num_workers=0"]
    (cfg,) = composing.compose_jobs("train", words)
    if leaves_by is None:
        train(cfg, words, [])
    else:
        with pytest.raises(leaves_by):
            train(cfg, words, [])
    tracked = Run(root / "runs" / name).described()["mlflow_run_id"]
    assert MlflowClient(cfg.tracking.uri).get_run(tracked).info.status == status
