"""How fast a run is, and what it waits for: perf.jsonl and the line on the screen."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from zoomldm.data.batch import Batch
from zoomldm.runs.records import append_lines

BACKWARD_FACTOR = 3
"""FLOPs of forward and backward together over those of forward: a backward pass costs two forward passes."""

# Dense bf16 FLOP/s by the makers' data sheets, by a part of torch.cuda.get_device_name().
PEAK_FLOPS = {
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12,
    "A800": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A40": 150e12, "A6000": 155e12, "A10G": 70e12,
    "A10": 125e12, "4090": 165e12, "3090": 71e12,
}  # fmt: skip


def peak_flops(device: torch.device) -> float | None:
    """Return the device's dense bf16 FLOP/s, None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def count_flops_per_image(module: nn.Module, batch: Batch, seed: int) -> float:
    """Return the FLOPs of a forward and backward pass an image, counted on one forward pass of `batch`."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = module.training
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(batch, seed)
    module.train(was_training)
    return BACKWARD_FACTOR * counter.get_total_flops() / len(batch)


class PerfMeter:
    """Count images, and seconds waited for the loader, between reports.

    flops_per_image: forward and backward, None where unknown; devices: number that share the global batch.
    """

    def __init__(
        self, path: Path | None, *, device: torch.device, devices: int, flops_per_image: float | None = None
    ) -> None:
        self.path, self.device, self.devices = path, device, devices
        self.flops_per_image, self.peak = flops_per_image, peak_flops(device)
        self.began_s = time.perf_counter()
        self._restart()

    def waited(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch, counting how long it took to come."""
        start = time.perf_counter()
        batch = next(batches)
        self.wait_s += time.perf_counter() - start
        return batch

    def end_step(self, num_images: int) -> None:
        """Count one step's images (of the global batch)."""
        self.num_steps += 1
        self.num_images += num_images

    def pause(self) -> None:
        """Leave out of the rates what happens until `go_on`: validation, samples, checkpoints."""
        self._paused_at = time.perf_counter()

    def go_on(self) -> None:
        """End a pause."""
        self.window_began_s += time.perf_counter() - self._paused_at

    def report(self, step: int, total_steps: int) -> dict[str, float | None]:
        """Return the rates since the last report and write them; begin anew."""
        elapsed_s = max(time.perf_counter() - self.window_began_s, 1e-9)
        images_per_s = self.num_images / elapsed_s
        flops_per_s = self.flops_per_image * images_per_s / self.devices if self.flops_per_image else None
        figures = {
            "step": step,
            "images_per_s": images_per_s,
            "step_s": elapsed_s / max(1, self.num_steps),
            "loader_wait": self.wait_s / elapsed_s,
            "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "gpu_memory_gb": torch.cuda.max_memory_allocated(self.device) / 2**30
            if self.device.type == "cuda"
            else None,
            "tflops_per_device": flops_per_s / 1e12 if flops_per_s else None,
            "mfu": flops_per_s / self.peak if flops_per_s and self.peak else None,
            "elapsed_s": time.perf_counter() - self.began_s,
            "remaining_s": (total_steps - step) * elapsed_s / max(1, self.num_steps),
        }
        if self.path is not None:
            append_lines(self.path, [json.dumps(figures)])
        self._restart()
        return figures

    def _restart(self) -> None:
        self.window_began_s = self._paused_at = time.perf_counter()
        self.wait_s, self.num_steps, self.num_images = 0.0, 0, 0


def duration(seconds: float) -> str:
    """Return seconds as people read them: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
