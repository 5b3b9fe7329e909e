"""Set evaluated runs side by side: `python src/compare.py runs/zoomldm_tiny-*` or `runs=[a,b]`.

Runs that differ in their seed alone are averaged; it says which is the best, and which differences exceed their errors.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.compare import check, with_folders

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.compare import run

    run(cfg)


if __name__ == "__main__":
    sys.argv[1:] = with_folders(sys.argv[1:])
    main("compare", run, check=check)
