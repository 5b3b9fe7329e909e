"""Distances per magnification of a trained ZoomLDM, with what gives them meaning: `python src/evaluate.py [run=NAME]`.

Prints which run, the table with the paper's Table 1 beside it and the claims; writes <run>/evaluation and <run>/report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.evaluate import check

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.evaluate import run
    from zoomldm.commands.job import own_command

    run(cfg, own_command(__file__))


if __name__ == "__main__":
    main("evaluate", run, check=check)
