"""A whole synthetic slide, from a thumbnail to nuclei, as a pyramidal OME-TIFF.

    python src/slide.py out=synthetic.ome.tiff [root=0.15625 target=20 seed=0]
    python src/slide.py out=synthetic.ome.tiff model=reference roots=2x2 plan=true

Goes on where it stopped; after each level the file can be opened. docs/slide.md has the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.slide import check

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.job import own_command
    from zoomldm.commands.slide import run

    run(cfg, own_command(__file__))


if __name__ == "__main__":
    main("slide", run, check=check)
