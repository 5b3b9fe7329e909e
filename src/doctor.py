"""Say what this machine has: `python src/doctor.py` (or `make doctor`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.doctor import examine

    examine(cfg)


if __name__ == "__main__":
    main("doctor", run)
