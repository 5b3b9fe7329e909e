"""A killed run goes on and ends with the same bytes, whether its workers were killed with it or not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.report.verification import verify
from tests.helpers.prepare import hashes, prepare_folder

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 90

SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {source!r}]
from pathlib import Path
from data_prep.execution.local import LocalExecutor
from tests.helpers.prepare import prepare_folder
if __name__ == "__main__":
    part = tuple(int(word) for word in sys.argv[1:]) or None
    prepare_folder(Path({slides!r}), Path({data!r}), executor=LocalExecutor(1), part=part)
"""


@pytest.fixture
def start(slides, tmp_path):
    """Return a function that starts a preparation of ``slides`` into ``killed`` as a process group of its own."""
    script, data = tmp_path / "job.py", tmp_path / "killed"
    script.write_text(SCRIPT.format(root=str(ROOT), source=str(ROOT / "src"), slides=str(slides), data=str(data)))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = []

    def begin(*part: int) -> subprocess.Popen:
        command = [sys.executable, str(script), *(str(number) for number in part)]
        started.append(subprocess.Popen(command, start_new_session=True, **quiet))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.003)
    assert is_so()


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(slides, start, tmp_path):
    prepare_folder(slides, tmp_path / "whole")
    data = tmp_path / "killed"
    for wanted in ("slides/a/state.json", "shards/plan.json"):
        process = start()
        wait_until(lambda wanted=wanted: (data / wanted).exists())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (data / "manifest.json").exists()
    manifest = prepare_folder(slides, data)
    assert hashes(data) == hashes(tmp_path / "whole")
    assert verify(manifest) == []


def test_workers_end_with_their_parent_and_the_next_run_is_undisturbed(slides, start, tmp_path):
    prepare_folder(slides, tmp_path / "whole")
    data = tmp_path / "killed"
    process = start()
    wait_until(lambda: any(data.glob("slides/.*.part")))
    workers = children_of(process.pid)
    assert workers
    process.send_signal(signal.SIGKILL)  # the parent alone
    process.wait()
    manifest = prepare_folder(slides, data)
    wait_until(lambda: not any(is_running(pid) for pid in workers))
    assert hashes(data) == hashes(tmp_path / "whole")
    assert verify(manifest) == []
    assert not list(data.glob("slides/.*.part"))


@pytest.mark.parametrize("part", [(), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_two_runs_at_once_in_one_folder_make_the_bytes_of_one(slides, start, tmp_path, part):
    prepare_folder(slides, tmp_path / "whole")
    data = tmp_path / "killed"
    processes = [start(), start(*part)]
    assert [process.wait(PATIENCE_S) for process in processes] == [0, 0]
    assert hashes(data) == hashes(tmp_path / "whole")
