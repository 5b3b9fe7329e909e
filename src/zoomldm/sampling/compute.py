"""Where, and in which precision, models are sampled."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from zoomldm.launch.settings import FabricSettings
from zoomldm.model.trainable import Trainable


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The device and what makes it fast.

    Attributes:
        autocast: matrix products in bfloat16, as models are trained on GPUs.
        compile: compile the networks that a model names in ``compiled_parts``, for one batch size.
        channels_last: memory format of the convolutions.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: bool = False
    compile: bool = False
    channels_last: bool = False

    @classmethod
    def of(cls, settings: FabricSettings, device: torch.device) -> Compute:
        """Return what training with these settings has."""
        return cls(
            device=device,
            autocast=settings.autocast,
            compile=settings.chosen("compile"),
            channels_last=settings.chosen("channels_last"),
        )

    @property
    def precision(self) -> str:
        """The name of the precision, for reports and identities."""
        if self.autocast:
            return "bf16-mixed"
        return "32, products in TF32" if tf32(self.device) else "32"

    def prepare(self, part: object) -> None:
        """Bring a model to the device, ready to be sampled; what is no module stays as it is."""
        if not isinstance(part, torch.nn.Module):
            return
        part.to(self.device).eval()
        if self.channels_last:
            part.to(memory_format=torch.channels_last)
        if self.compile and isinstance(part, Trainable):
            part.compile_parts()


def tf32(device: torch.device) -> bool:
    """Say whether float32 products are rounded to TF32 on a device, as `launch.fabric` allows on GPUs."""
    return device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"


def device_name(device: torch.device) -> str:
    """Name the hardware behind a device, for reports."""
    from zoomldm.runs.provenance import hardware

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{hardware()['cpus']} CPU cores"
