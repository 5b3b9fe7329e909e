"""Where a run is told to compute: devices, precision, processes (conf/fabric/*.yaml). Imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass

from zoomldm.errors import ConfigError
from zoomldm.launch.processes import is_worker

PRECISIONS = ("auto", "32", "bf16-mixed")
REFUSED_PRECISIONS = {
    "16-mixed": "float16 overflows without a scaled loss, which the fused optimiser cannot clip",
    "bf16": "weights of 8 bits lose the small steps that training makes, and their averages need float32",
}


@dataclass(frozen=True, kw_only=True)
class FabricSettings:
    """conf/fabric/*.yaml.

    accelerator: auto, cpu, cuda; devices: auto (every GPU, else one process) or a number; precision: auto is bf16-mixed
    on a GPU and 32 on a CPU; compile, channels_last, num_workers: auto decides by the device; deterministic: the same
    bits on a GPU, slower; num_workers: loader processes a rank.
    """

    name: str
    accelerator: str
    devices: int | str
    num_nodes: int
    precision: str
    compile: bool | str
    channels_last: bool | str
    deterministic: bool
    num_workers: int | str

    def __post_init__(self) -> None:
        faults = []
        if str(self.precision) not in PRECISIONS:
            refused = REFUSED_PRECISIONS.get(str(self.precision).removesuffix("-true"))
            reason = f"is not offered, since {refused};" if refused else "no such precision;"
            faults.append(f"fabric.precision={self.precision}: {reason} expected one of {', '.join(PRECISIONS)}")
        if self.accelerator not in ("auto", "cpu", "cuda", "gpu", "mps"):
            faults.append(f"fabric.accelerator={self.accelerator}: expected auto, cpu or cuda")
        for name in ("devices", "num_workers"):
            value, least = getattr(self, name), 1 if name == "devices" else 0
            if value != "auto" and not (isinstance(value, int) and value >= least):
                faults.append(f"fabric.{name}={value}: expected auto or a whole number from {least}")
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def on_gpu(self) -> bool:
        """Whether the run computes on CUDA devices."""
        if self.accelerator in ("cuda", "gpu"):
            return True
        return self.accelerator == "auto" and _num_gpus() > 0

    @property
    def autocast(self) -> bool:
        """Whether networks compute in bf16 where that is safe, over weights in float32."""
        return self.precision == "bf16-mixed" or (self.precision == "auto" and self.on_gpu)

    @property
    def num_devices(self) -> int:
        """Processes on this machine.

        Raises:
            ConfigError: GPUs are asked for that are not there, or more processes than this machine has cores.
        """
        gpus = _num_gpus() if self.on_gpu else 0
        cores = len(os.sched_getaffinity(0))
        if not self.on_gpu and self.devices != "auto" and self.devices > max(2, cores) and not is_worker():
            raise ConfigError(
                f"fabric.devices={self.devices}: that many processes wanted, this machine has {cores} CPU cores; give "
                f"at most {cores}"
            )
        if self.on_gpu and (gpus == 0 or (self.devices != "auto" and self.devices > gpus)):
            raise ConfigError(
                f"fabric={self.name}: {self.devices} CUDA device(s) wanted, {gpus} found; "
                "choose fabric=cpu, or look at nvidia-smi and CUDA_VISIBLE_DEVICES"
            )
        return max(1, gpus) if self.devices == "auto" else int(self.devices)

    @property
    def workers(self) -> int:
        """Loader processes of each rank."""
        if self.num_workers != "auto":
            return int(self.num_workers)
        return max(1, min(8, len(os.sched_getaffinity(0)) // self.num_devices - 1)) if self.on_gpu else 0

    def chosen(self, name: str) -> bool:
        """Return `compile` or `channels_last`, with auto decided: on a GPU yes."""
        value = getattr(self, name)
        return self.on_gpu if value == "auto" else bool(value)


def check_devices(settings: FabricSettings) -> None:
    """Refuse more devices than this machine has.

    Raises:
        ConfigError: names how many there are.
    """
    if settings.devices not in ("auto", 1):
        _ = settings.num_devices


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
