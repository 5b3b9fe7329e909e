"""What is wrong is said before anything heavy is imported."""

import subprocess
import sys

import pytest

from zoomldm.commands.check import check_train
from zoomldm.composing import compose_jobs
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import ConfigError

CHECK = """
import os, sys
os.environ["PROJECT_ROOT"] = {root!r}
from zoomldm.composing import compose_jobs
from zoomldm.commands.check import check_train
from zoomldm.errors import ConfigError
(cfg,) = compose_jobs("train", {words!r})
try:
    check_train(cfg)
except ConfigError as error:
    print(error)
print([name for name in ("torch", "lightning_fabric", "mlflow", "diffusers", "timm") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=zoomldm", "data=brca_8mag"], "4 things are missing or wrong"),
        (["model=zoomldm_tiny", "optim.lr=-1", "train.log_every=0"], "2 things are missing or wrong"),
        (["optim.batch_size=0"], "optim.batch_size=0: expected 1 or more"),
        (["seed=-1"], "seed=-1: expected a whole number from 0"),
        (["run_name=../../x"], "run_name=../../x: expected the name of a folder"),
        (["model=edm", "data=demo"], "patches of 256 px"),
        (["model=zoomldm_tiny", "fabric.precision=bf16"], "fabric.precision=bf16: is not offered"),
    ],
)
def test_faults_are_found_without_torch(tmp_path, words, said):
    code = CHECK.format(root=str(PROJECT_ROOT), words=[f"paths.root={tmp_path}", *words])
    env = {"PYTHONPATH": str(PROJECT_ROOT / "src"), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert said in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("model", ["zoomldm_tiny", "edm_tiny"])
def test_noise_is_no_prediction_where_nothing_else_is_left(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(PROJECT_ROOT))
    words = [f"paths.root={tmp_path}", f"model={model}", "schedule=zero_terminal"]
    for prediction in ("v", "x0"):
        check_train(*compose_jobs("train", [*words, f"prediction={prediction}"]))
    with pytest.raises(ConfigError, match=r"schedule=zero_terminal prediction=eps: .*use prediction=v or x0"):
        check_train(*compose_jobs("train", [*words, "prediction=eps"]))
