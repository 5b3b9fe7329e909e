"""What the settings of devices and precision decide, and what they refuse."""

import os

import pytest

from tests.helpers.settings import fabric_settings
from zoomldm.errors import ConfigError


def test_gpus_that_are_not_there_are_missed_with_advice(monkeypatch):
    monkeypatch.setattr("zoomldm.launch.settings._num_gpus", lambda: 1)
    assert fabric_settings(accelerator="auto").num_devices == 1
    with pytest.raises(ConfigError, match=r"2 CUDA device\(s\) wanted, 1 found; choose fabric=cpu"):
        _ = fabric_settings(accelerator="cuda", devices=2).num_devices


def test_more_processes_than_cores_are_refused_unless_something_else_started_them(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    many = fabric_settings(accelerator="cpu", devices=99)
    with pytest.raises(ConfigError, match=r"fabric\.devices=99: .* has 2 CPU cores"):
        _ = many.num_devices
    assert fabric_settings(accelerator="cpu", devices=2).num_devices == 2
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "99")  # each of them sees a part of the cores
    assert many.num_devices == 99


def test_auto_decides_by_the_device(monkeypatch):
    monkeypatch.setattr("zoomldm.launch.settings._num_gpus", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    auto = fabric_settings()
    assert (auto.num_devices, auto.workers, auto.chosen("compile")) == (8, 7, True)
    monkeypatch.setattr("zoomldm.launch.settings._num_gpus", lambda: 0)
    assert (auto.num_devices, auto.workers, auto.chosen("compile")) == (1, 0, False)


def test_settings_out_of_range_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        fabric_settings(precision="8", accelerator="tpu", devices=0, num_workers=-1)
    for name in ("fabric.precision=8", "fabric.accelerator=tpu", "fabric.devices=0", "fabric.num_workers=-1"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "reason"), [("16-mixed", "overflows"), ("bf16", "8 bits"), ("bf16-true", "8 bits")]
)
def test_precisions_that_cannot_train_are_refused_with_the_reason(precision, reason):
    with pytest.raises(ConfigError, match=rf"fabric\.precision={precision}: .*{reason}.*bf16-mixed"):
        fabric_settings(precision=precision)
