"""Synthetic patches from a trained ZoomLDM.

    python src/sample.py run=NAME magnification=5 n=16 [source=generated]
    python src/sample.py source=slide source.slide=FILE source.x=8000 source.y=6000 magnification=2.5
    python src/sample.py model=reference magnification=5              the trained model that ships
    python src/sample.py weights=PATH edm_weights=PATH source=generated      from an official ZoomLDM

Writes PNGs and a contact sheet; the same seed gives the same images. docs/sampling.md has the rest.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.sample import check
from zoomldm.config import PROJECT_ROOT

if TYPE_CHECKING:
    from omegaconf import DictConfig

sys.path.append(str(PROJECT_ROOT))  # of data_prep, which reads slides and pictures


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.job import own_command
    from zoomldm.commands.sample import run

    run(cfg, own_command(__file__))


if __name__ == "__main__":
    main("sample", run, check=check)
