"""Train the autoencoder, ZoomLDM or the embedding diffusion model; sweeps with -m.

python src/train.py model=zoomldm data=brca_8mag
python src/train.py -m cond=film,none
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.cli import main
from zoomldm.commands.check import check_train

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.composing import Job


def before(jobs: Sequence[Job]) -> None:
    from zoomldm.commands.demo import make_what_is_missing, say_defaults

    say_defaults(jobs)
    make_what_is_missing(jobs)


def after_sweep(jobs: Sequence[Job], folder: Path) -> None:
    from zoomldm.commands.sweep import compare_jobs

    compare_jobs(jobs, folder)


def run(cfg: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig

    from zoomldm.commands.job import own_command
    from zoomldm.commands.train import train

    return train(cfg, list(HydraConfig.get().overrides.task), own_command(__file__))


if __name__ == "__main__":
    main("train", run, check=check_train, before=before, after_sweep=after_sweep)
