"""Rehearse the paper's size: every documented command at full architecture, a few steps of each (or `make rehearse`).

    python src/rehearse.py [slides=FOLDER] [folder=SCRATCH] [stages=[prepare,latents]] [short=true]

Ends with READY, or with what to mend and status 2. docs/rehearsal.md says what it prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.rehearse import check

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.rehearse import rehearse
    from zoomldm.composing import planned

    rehearse(cfg, planned)


if __name__ == "__main__":
    main("rehearse", run, check=check)
