"""Bringing a command's work to its devices: here, or in processes that a supervisor starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoomldm.launch.settings import FabricSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")


def on_devices(
    hardware: FabricSettings, work: Callable[[Fabric], T], *, command: Sequence[str], cache: str | Path
) -> T | None:
    """Run ``work`` in every process; return what this one's gave, None in a supervisor.

    Args:
        command: the command line that runs this job alone, for the processes of several devices.
        cache: folder for what the compiler makes.
    """
    from zoomldm.launch.fabric import connected
    from zoomldm.launch.supervise import needs_supervisor, supervise

    if needs_supervisor(hardware):
        supervise(hardware, command)
        return None
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache).absolute() / "inductor"))
    with connected(hardware) as fabric:
        return work(fabric)
