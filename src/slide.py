"""A whole synthetic slide, from a thumbnail to nuclei, as a pyramidal OME-TIFF.

    python src/slide.py out=synthetic.ome.tiff [root=0.15625 target=20 seed=0]
    python src/slide.py out=synthetic.ome.tiff model=reference roots=2x2 plan=true
    python src/slide.py out=sharp.ome.tiff model=reference source=image source.path=a.png source.magnification=2.5

Goes on where it stopped; after each level the file can be opened. docs/slide.md has the rest.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.slide import check
from zoomldm.config import PROJECT_ROOT

if TYPE_CHECKING:
    from omegaconf import DictConfig

sys.path.append(str(PROJECT_ROOT))  # of data_prep, which reads slides and pictures


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.job import own_command
    from zoomldm.commands.slide import run

    run(cfg, own_command(__file__))


if __name__ == "__main__":
    main("slide", run, check=check)
