import json
import os
import sys

import pytest

from zoomldm.composing import compose_jobs
from zoomldm.rehearsal.extrapolation import FULL_TRAINING, by_operations, evaluation_estimate, training_estimate
from zoomldm.rehearsal.measure import measured
from zoomldm.rehearsal.report import DONE, FAILED, LEFT_OUT, Result, table, verdict

GRANDCHILD = "import time; held = b'x' * 10**8; time.sleep(1.5)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}])"


def test_memory_of_children_counts(tmp_path):
    took = measured([sys.executable, "-c", CHILD], cwd=tmp_path, env=os.environ, log=tmp_path / "log.txt")
    assert took.code == 0
    assert 10**8 < took.peak_bytes < 10**9
    assert took.elapsed_s > 1.5


def test_a_failing_command_says_its_own_message(tmp_path):
    program = "import sys; print('before'); print('error: wrong weights\\nmend them', file=sys.stderr); sys.exit(2)"
    took = measured([sys.executable, "-c", program], cwd=tmp_path, env=os.environ, log=tmp_path / "log.txt")
    assert (took.code, took.message()) == (2, "error: wrong weights\nmend them")


def test_extrapolation(tmp_path):
    perf = tmp_path / "perf.jsonl"
    assert training_estimate("zoomldm", perf) is None
    perf.write_text("".join(json.dumps({"images_per_s": rate}) + "\n" for rate in (1.0, 2.0)))
    assert training_estimate("zoomldm", perf, cells=2).seconds == 2 * 200_000 * 600 / 2
    assert by_operations(3.0, done=2.0, full=20.0, of="x").seconds == 30
    assert by_operations(3.0, done=0, full=20.0, of="x") is None
    assert evaluation_estimate(1.0, patches=80_000, steps=50).seconds == 1.0


@pytest.mark.parametrize("model", FULL_TRAINING)
def test_a_full_training_is_what_conf_says(model):
    words = ["autoencoder.weights=a", "unet.init=null"] if model.startswith("zoomldm") else []
    (cfg,) = compose_jobs("train", [f"model={model}", "data=brca_8mag", *words])
    assert FULL_TRAINING[model] == (cfg.train.steps, cfg.optim.batch_size)


def test_the_verdict_says_what_to_mend():
    good = Result(title="prepare", command="python a", state=DONE, elapsed_s=2, cpu_s=3, peak_bytes=10**9)
    bad = Result(title="latents", command="python b", state=FAILED, message="error: no such file")
    lost = Result(title="ZoomLDM", command="python c", state=LEFT_OUT, message="needs latents")
    assert verdict([good], ["a note"]) == (True, "READY\na note")
    is_ready, words = verdict([good, bad, lost])
    assert not is_ready
    assert words.splitlines()[1:3] == ["- latents: python b", "    error: no such file"]
    assert "together" in table([good, bad])
