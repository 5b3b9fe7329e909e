"""A page to play with a trained ZoomLDM, on this machine alone (or `make app`).

    python src/app.py [run=NAME] [port=7860] [slides=[a.svs,b.svs]]

Needs Gradio: `make app` installs it; docs/sampling.md says what is on the page.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.app import check
from zoomldm.config import PROJECT_ROOT

if TYPE_CHECKING:
    from omegaconf import DictConfig

sys.path.append(str(PROJECT_ROOT))  # of data_prep, which reads slides and pictures


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.app import run

    run(cfg)


if __name__ == "__main__":
    main("app", run, check=check)
