"""Rates, waits and the time left."""

import json
import time

import pytest
import torch
from torch import nn

from zoomldm.data.batch import Batch
from zoomldm.training.perf import PerfMeter, count_flops_per_image, peak_flops
from zoomldm.training.reporter import duration


def test_rates_leave_pauses_out_and_count_waits(tmp_path):
    meter = PerfMeter(tmp_path / "perf.jsonl", device=torch.device("cpu"), devices=2, flops_per_image=1e9)

    def slow():
        time.sleep(0.05)
        yield "batch"

    assert meter.waited(slow()) == "batch"
    meter.end_step(10)
    with meter.paused():
        time.sleep(0.2)
    figures = meter.report(1, 3)
    assert 40 < figures["images_per_s"] <= 200
    assert figures["loader_wait"] > 0.5
    assert figures["remaining_s"] == pytest.approx(2 * figures["step_s"])
    assert figures["tflops_per_device"] == pytest.approx(figures["images_per_s"] / 2000)
    assert figures["mfu"] is None
    assert json.loads((tmp_path / "perf.jsonl").read_text()) == figures


def test_flops_are_counted_on_the_forward_pass():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(10, 20, bias=False)

        def forward(self, batch, seed):
            return self.layer(torch.ones(len(batch), 10))

    batch = Batch(sample_number=torch.arange(4), rung=torch.zeros(4, dtype=torch.int64))
    net = Net()
    assert count_flops_per_image(net, batch, 0) == 3 * 2 * 10 * 20
    assert net.training


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA L4", 121),
        ("Something else", None),
    ],
)
def test_peaks_are_of_dense_matrices(monkeypatch, name, tflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = peak_flops(torch.device("cuda"))
    assert peak is None if tflops is None else peak == pytest.approx(tflops * 1e12, rel=1e-3)


def test_a_cpu_has_no_known_peak():
    assert peak_flops(torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 s"), (720, "12 min"), (12000, "3 h 20 min"), (2 * 86400 + 4 * 3600, "2 d 4 h")]
)
def test_durations_are_read_by_people(seconds, words):
    assert duration(seconds) == words
