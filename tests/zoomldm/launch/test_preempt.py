"""Signals set a flag, and the scheduler is asked to queue the job again."""

import os
import signal
import stat

import pytest
from lightning_fabric import Fabric

from zoomldm.launch.preempt import Preempted, Preemption, requeue


@pytest.fixture(scope="module")
def fabric():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return fabric


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_is_noticed_at_once_and_handlers_are_put_back(fabric, number):
    before = signal.getsignal(number)
    with Preemption(fabric, every=20) as preemption:
        assert not preemption.agreed(1)
        os.kill(os.getpid(), number)
        assert preemption.agreed(2)
    assert signal.getsignal(number) == before


def test_a_handler_that_was_there_before_is_called_when_all_is_saved(fabric):
    """submitit's, which queues the job again."""
    calls = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: calls.append(number))
    try:
        with Preemption(fabric, every=20) as preemption:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert preemption.agreed(1)
            assert calls == []
            preemption.pass_on()
        assert calls == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_slurm_is_asked_to_queue_the_job_again(tmp_path, monkeypatch):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/called\n")
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IEXEC)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert not requeue()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "16")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue()
    assert (tmp_path / "called").read_text() == "requeue 17\nrequeue 16_3\n"


def test_leaving_has_its_own_exit_status():
    assert Preempted().code == 75
