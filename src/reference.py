"""Train the model that ships, hours on this machine (or `make reference`); `pack=true` writes it into the package.

Goes on where it stopped. docs/reference.md has the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.reference import check

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    from zoomldm.commands.reference import run

    run(cfg)


if __name__ == "__main__":
    main("reference", run, check=check)
