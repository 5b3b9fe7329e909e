"""Processes are started with this job's own command line, end together, and hand signals on."""

import os
import signal
import sys
import threading
import time

import pytest

from tests.helpers.settings import fabric_settings
from zoomldm.errors import UserError
from zoomldm.launch.preempt import Preempted
from zoomldm.launch.processes import RANKS_VARIABLE
from zoomldm.launch.supervise import job_command, needs_supervisor, supervise


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (RANKS_VARIABLE, "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def ranks(code: str) -> None:
    supervise(
        fabric_settings(accelerator="cpu", devices=2), [sys.executable, "-c", "import os, sys, time, signal\n" + code]
    )


def test_each_process_knows_its_rank(tmp_path):
    ranks(
        f"open(r'{tmp_path}/' + os.environ['LOCAL_RANK'], 'w').write('{{WORLD_SIZE}}{{RANK}}'.format_map(os.environ))"
    )
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"0": "20", "1": "21"}


def test_one_failure_ends_the_others():
    start = time.monotonic()
    with pytest.raises(UserError, match="ended with code 3"):
        ranks("sys.exit(3) if os.environ['RANK'] == '1' else time.sleep(60)")
    assert time.monotonic() - start < 10


def test_signals_are_handed_on_and_leaving_is_no_failure():
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Preempted):
        ranks("signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\ntime.sleep(60)")


def test_a_jobs_command_is_not_the_sweeps():
    command = job_command("src/train.py", ["cond=film", "seed=1"], ["hydra.mode=MULTIRUN", "hydra/launcher=joblib"])
    assert command == [sys.executable, "src/train.py", "cond=film", "seed=1", "hydra.mode=RUN"]


def test_several_processes_need_a_supervisor_unless_they_are_there(monkeypatch):
    two = fabric_settings(accelerator="cpu", devices=2)
    assert needs_supervisor(two)
    assert not needs_supervisor(fabric_settings(accelerator="cpu", devices=1))
    for name in (RANKS_VARIABLE, "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "2")
            assert not needs_supervisor(two)
