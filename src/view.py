"""One or two slides to zoom into, on a page that this machine alone sees (or `make view`).

    python src/view.py slides=[synthetic.ome.tiff,real.svs] [port=7861]

Needs Bokeh: `make view` installs it; docs/viewer.md says what is on the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.view import check

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.view import run

    run(cfg)


if __name__ == "__main__":
    main("view", run, check=check)
