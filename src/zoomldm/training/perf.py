"""How fast a run is, and what it waits for: perf.jsonl."""

from __future__ import annotations

import json
import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.throughput import get_available_flops
from torch import nn

from zoomldm.data.batch import Batch
from zoomldm.data.reader import SampleSource
from zoomldm.model.trainable import Trainable
from zoomldm.runs.records import append_lines

BACKWARD_FACTOR = 3
"""FLOPs of forward and backward together over those of forward: a backward pass costs two forward passes."""


PEAK_FLOPS = {"H200 NVL": 835e12, "H200": 989e12, "H100 NVL": 835e12, "L40S": 362e12, "L40": 181e12}
"""Dense bf16 FLOP/s by a part of the device's name, where Lightning's table errs. The H200 is the H100 SXM's chip with
another memory, and is not found there under its name; H100 NVL stands there with the doubled rate of sparse matrices;
L40S and L40 are taken for the L4. NVIDIA's data sheets, whose figures with sparsity are halved."""


def peak_flops(device: torch.device) -> float | None:
    """Return the device's dense bf16 FLOP/s, None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    for part, flops in PEAK_FLOPS.items():
        if part in name:
            return flops
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_available_flops(device, torch.bfloat16)


def count_flops_per_image(module: nn.Module, batch: Batch, seed: int) -> float:
    """Return the FLOPs of a forward and backward pass an image, counted on one forward pass of `batch`."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = module.training
    module.eval()  # a probe must leave running statistics and the codebook's clock as they are
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(batch, seed)
    finally:
        module.train(was_training)
    return BACKWARD_FACTOR * counter.get_total_flops() / len(batch)


def flops_per_image(
    trainable: Trainable, source: SampleSource, rungs: np.ndarray, seed: int, fabric: Fabric
) -> float | None:
    """Count the FLOPs of forward and backward on a sample of each rung, on a GPU; None where they cannot be counted."""
    if fabric.device.type != "cuda":
        return None
    try:
        batch = source.read(rungs, np.zeros(len(rungs), np.int64)).to(fabric.device)
        with fabric.autocast():
            return count_flops_per_image(trainable, batch, seed)
    except (RuntimeError, NotImplementedError):
        return None  # an operator that the counter cannot follow: no MFU is shown


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

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out of the rates what happens meanwhile: validation, samples, checkpoints."""
        paused_at_s = time.perf_counter()
        yield
        self.window_began_s += time.perf_counter() - paused_at_s

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
        self.window_began_s = time.perf_counter()
        self.wait_s, self.num_steps, self.num_images = 0.0, 0, 0
