"""What trains: the command, the code and the machine, as run.json remembers them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from zoomldm import __version__


def provenance() -> dict[str, Any]:
    """Describe what is about to train: command, code and machine."""
    return {"command": " ".join(sys.argv), "code_version": __version__, **git_state(), "hardware": hardware()}


def git_state() -> dict[str, Any]:
    """Return {"git_revision", "git_dirty"} of the code, None where it is no checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(Path(__file__).parent), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
            return done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"git_revision": git("rev-parse", "HEAD"), "git_dirty": None if status is None else bool(status)}


def hardware() -> dict[str, Any]:
    """Describe this machine; GPUs are named where torch is loaded already."""
    gpus = []
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        cuda = sys.modules["torch"].cuda
        gpus = [cuda.get_device_name(i) for i in range(cuda.device_count())]
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": gpus,
        "python": platform.python_version(),
    }
