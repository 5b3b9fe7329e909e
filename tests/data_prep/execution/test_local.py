"""A job that dies, hangs or is wrong: one result among others, or the end of the run."""

import time

import pytest

from data_prep.execution import executor, local
from data_prep.execution.executor import make_executor
from data_prep.execution.local import LocalExecutor
from tests.helpers.jobs import HangsAtStart, die_on_killer, fail_on_zero, sleep_on_zero
from zoomldm.errors import ConfigError, UserError


def test_a_worker_that_dies_costs_its_job_alone():
    results = dict(LocalExecutor(2).map(die_on_killer, ["a", "killer", "b"]))
    assert (results[0], results[2]) == ("a", "b")
    assert "ended with code -9" in results[1].reason


def test_a_job_that_hangs_is_stopped():
    results = dict(LocalExecutor(1, timeout_s=2.0).map(sleep_on_zero, [0, 1]))
    assert "took longer than 2 s" in results[0].reason
    assert results[1] == 1


def test_a_workers_start_is_not_counted_as_its_jobs_time(monkeypatch):
    """A process takes more than a tenth of a second to start; the job in it takes none."""
    began = time.monotonic()
    assert dict(LocalExecutor(1, timeout_s=0.1).map(sleep_on_zero, [1])) == {0: 1}
    assert time.monotonic() - began > 0.1


def test_a_mistake_in_a_job_ends_the_run_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError"):
        list(LocalExecutor(1).map(fail_on_zero, [1, 0]))


def test_jobs_of_which_none_ends_are_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(executor, "STILL_S", 0.5)
    with pytest.raises(UserError, match="none of the 1 jobs at work has ended for"):
        list(LocalExecutor(1).map(sleep_on_zero, [0]))


@pytest.mark.parametrize("job", ["small", "x" * (1 << 24)])
def test_a_process_that_does_not_start_is_not_waited_for_for_ever(monkeypatch, job):
    """Also where its pipe holds no more, so that sending the job would wait."""
    monkeypatch.setattr(local, "START_S", 0.5)
    with pytest.raises(UserError, match=r"has not begun its job within 0\.5 s: the disk with Python .* hangs"):
        list(LocalExecutor(1).map(HangsAtStart(), [job]))


@pytest.mark.parametrize(
    ("numbers", "key"), [({"workers": 0}, "workers=0"), ({"workers": 1, "encoders": -1}, "encoders=-1")]
)
def test_numbers_of_processes_that_make_no_sense_are_refused(numbers, key):
    with pytest.raises(ConfigError, match=key):
        make_executor("local", **numbers)
