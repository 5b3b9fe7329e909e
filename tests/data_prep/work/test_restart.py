"""A killed run goes on and ends with the same bytes; a job that dies or hangs is one result among others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.execution.local import LocalExecutor, make_executor
from data_prep.report.verification import verify
from tests.data_prep.test_pipeline import hashes, prepare_folder
from zoomldm.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def slides(tiny_slide):
    for number, name in enumerate(("a", "b", "c")):
        path = tiny_slide(name, seed=number, width=400, height=360)
    return path.parent


KILLED = """
import sys
sys.path[:0] = [{root!r}, {source!r}]
import tests.data_prep.test_pipeline as t
if __name__ == "__main__":
    t.prepare_folder({slides!r}, t.Path({data!r}), executor=t.LocalExecutor(1))
"""


def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(slides, tmp_path):
    prepare_folder(slides, tmp_path / "whole")
    script = tmp_path / "job.py"
    data = tmp_path / "killed"
    script.write_text(KILLED.format(root=str(ROOT), source=str(ROOT / "src"), slides=str(slides), data=str(data)))
    for wanted in ("slides/a/state.json", "shards/plan.json"):
        process = subprocess.Popen(
            [sys.executable, str(script)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not (data / wanted).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert (data / wanted).exists()
    assert not (data / "manifest.json").exists()
    manifest = prepare_folder(slides, data)
    assert hashes(data) == hashes(tmp_path / "whole")
    assert verify(manifest) == []


def test_a_worker_that_dies_fails_its_slide_alone(slides, tmp_path):
    executor = LocalExecutor(2)
    (slides / "killer.svs").write_bytes(b"x")
    results = dict(executor.map(die_on_killer, ["a", "killer", "b"]))
    assert results[0] == "a"
    assert results[2] == "b"
    assert "ended with code -9" in results[1].reason


def test_a_job_that_hangs_is_stopped():
    results = dict(LocalExecutor(1, timeout_s=2.0).map(sleep_on_zero, [0, 1]))
    assert "took longer than 2 s" in results[0].reason
    assert results[1] == 1


@pytest.mark.parametrize(("numbers", "key"), [((0, None, None), "workers=0"), ((1, None, -1), "encoders=-1")])
def test_numbers_of_processes_that_make_no_sense_are_refused(numbers, key):
    with pytest.raises(ConfigError, match=key):
        make_executor("local", *numbers)


def die_on_killer(name):
    if name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def sleep_on_zero(number):
    if number == 0:
        time.sleep(60)
    return number
