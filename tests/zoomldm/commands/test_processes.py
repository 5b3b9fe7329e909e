"""Several processes make the patches that one makes, to the byte; one evaluation of a run at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.toy_runs import compose, make_toy_runs
from zoomldm.commands import evaluate, sample
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import UserError
from zoomldm.evaluation.store import alone
from zoomldm.evaluation.stored import stored_evaluations


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_runs(tmp_path_factory.mktemp("processes"))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_script(name: str, *words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROJECT_ROOT / "src" / name), *words]
    subprocess.run(command, check=True, env=environment, timeout=600)


def test_two_processes_write_the_same_patches(root, tmp_path, one_thread):
    words = ["run=zoom", "n=5", "batch_size=2", "sampling.steps=2", "fabric.accelerator=cpu", "to=jsonl"]
    sample.run(compose("sample", root, *words, f"folder={tmp_path / 'one'}"))
    run_script("sample.py", f"paths.root={root}", *words, "fabric=ddp", f"folder={tmp_path / 'two'}")
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 2 * (5 + 2)
    for name in names:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_two_processes_evaluate_as_one(root, one_thread):
    words = ["run=zoom", "num_per_magnification=8", "magnifications=[20]", "rows=[oracle,shuffled]", "batch_size=3"]
    words += ["sampling.steps=1", "fabric.accelerator=cpu", "fresh=true"]
    folder = root / "runs" / "zoom" / "evaluation"
    evaluate.run(compose("evaluate", root, *words))
    (before,) = stored_evaluations(root / "runs" / "zoom", "fd_texture")
    one = {path.relative_to(folder): np.load(path)["images"] for path in folder.rglob("patches/**/*.npz")}
    assert len(one) == 3  # the shuffled row shares the patches of the oracle row
    for path in one:
        (folder / path).unlink()
    run_script("evaluate.py", f"paths.root={root}", "tracking=none", *words, "fabric=ddp")
    for path, images in one.items():
        assert (np.load(folder / path)["images"] == images).all()
    (after,) = stored_evaluations(root / "runs" / "zoom", "fd_texture")
    assert after.cells == before.cells
    assert after.hardware.startswith("2 processes on ")


def test_a_second_evaluation_of_a_run_is_refused(root):
    with alone(root / "runs" / "zoom" / "evaluation"), pytest.raises(UserError, match="another process evaluates"):
        evaluate.run(compose("evaluate", root, "run=zoom", "num_per_magnification=8", "rows=[halves]"))
