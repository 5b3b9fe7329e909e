"""Run the whole job at the demo's scale: `python src/demo.py [slides=FOLDER] [mpp=0.5]` (or `make demo`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.demo import run_demo

    run_demo(cfg)


if __name__ == "__main__":
    main("demo", run)
