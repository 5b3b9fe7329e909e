"""Synthetic patches from a trained ZoomLDM.

    python src/sample.py run=NAME magnification=5 n=16 [conditions=generated]
    python src/sample.py weights=PATH edm_weights=PATH conditions=generated      from an official ZoomLDM

Writes PNGs and a contact sheet; the same seed gives the same images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.sample import check

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.job import own_command
    from zoomldm.commands.sample import run

    run(cfg, own_command(__file__))


if __name__ == "__main__":
    main("sample", run, check=check)
