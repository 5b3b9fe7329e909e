"""Lightning Fabric as a run uses it: devices, precision and the process group that the settings ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision

from zoomldm.launch.processes import RANKS_VARIABLE, is_worker
from zoomldm.launch.settings import FabricSettings

T = TypeVar("T")


class Autocast(MixedPrecision):
    """bf16-mixed that leaves a module's inputs as they are.

    Fabric's own rebuilds every input in bf16: batches are frozen, and float16 latents and grids would lose three bits.
    """

    def convert_input(self, data: T) -> T:
        return data


@contextmanager
def connected(settings: FabricSettings) -> Iterator[Fabric]:
    """Set the devices up, join the process group and leave it at the end."""
    count = settings.num_devices
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.backends.cudnn.benchmark = not settings.deterministic
    torch.set_float32_matmul_precision("high" if settings.on_gpu and not settings.deterministic else "highest")
    plugins: list[Precision | ClusterEnvironment] = []
    if settings.autocast:
        plugins.append(Autocast("bf16-mixed", "cuda" if settings.on_gpu else "cpu"))
    if RANKS_VARIABLE in os.environ:
        plugins.append(LightningEnvironment())
    many = count > 1 or settings.num_nodes > 1 or is_worker()
    fabric = Fabric(
        accelerator="cuda" if settings.on_gpu else "cpu",
        devices=count if many or settings.on_gpu else 1,
        num_nodes=settings.num_nodes,
        strategy="ddp" if many else "auto",
        plugins=plugins,
    )
    fabric.launch()
    failed = False
    try:
        yield fabric
    except Exception:
        failed = True  # the others may wait inside the group, and leaving it would wait for them: the end tells them
        raise
    finally:
        if not failed and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
