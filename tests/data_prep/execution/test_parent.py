"""What a parent does with processes that take nothing in, or cannot be ended."""

import multiprocessing
import subprocess
import sys
import time

import pytest

from data_prep.execution.parent import limit_sends
from zoomldm.config import PROJECT_ROOT

UNENDABLE = """
import multiprocessing, os, signal, time
from data_prep.execution import parent

def hang(pid):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    began = time.monotonic()
    while os.getppid() == pid and time.monotonic() - began < 60:
        time.sleep(0.1)

if __name__ == "__main__":
    parent.END_S = 0.2
    child = multiprocessing.get_context("fork").Process(target=hang, args=(os.getpid(),), daemon=True)
    child.start()
    child.kill = lambda: None
    parent.end(child)
"""


def test_sending_to_one_who_takes_nothing_in_has_an_end():
    mine, theirs = multiprocessing.Pipe()
    limit_sends(mine, 0.2)
    mine.send("fits")
    with pytest.raises(BlockingIOError):
        mine.send_bytes(bytes(1 << 24))
    assert theirs.recv() == "fits"


def test_a_process_that_cannot_be_ended_is_said_and_does_not_hold_its_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(UNENDABLE)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(PROJECT_ROOT)}, capture_output=True, text=True
    )
    assert time.monotonic() - began < 30
    assert done.returncode == 0, done.stderr
    assert "cannot be ended, its disk or mount hangs; it is left alone" in done.stdout
