"""reference.py: the model that ships, from drawn slides to its report, and packed. ``check`` imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.export import source_of
from zoomldm.commands.job import plain
from zoomldm.commands.steps import Step, run_steps, runs_of, steps_of
from zoomldm.errors import ConfigError
from zoomldm.runs.run import checkpoint_steps, find_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

SCALE = NAME = "reference"
"""What its models' names end with, and its data set."""

AUTOENCODER, PLAIN, EDM = runs_of(SCALE, NAME)
TOLD = PLAIN.replace("zoomldm_", "zoomldm_zoom_")
"""The ZoomLDM that is packed: the plain one, told the level above too."""

TRAININGS = ((AUTOENCODER, "autoencoder"), (PLAIN, "zoomldm"), (TOLD, "zoomldm"), (EDM, "edm"))
"""Runs in their order, and their kinds."""


def check(cfg: DictConfig) -> None:
    """Refuse senseless numbers, and to pack what is not trained.

    Raises:
        UserError: no such runs.
    """
    for key, least in (("patients", 2), ("growth", 0)):
        if cfg[key] is not None and cfg[key] < least:
            raise ConfigError(f"{key}={cfg[key]}: expected a whole number of {least} or more")
    if cfg.pack:
        for name, kind in TRAININGS:
            find_run(cfg.paths.runs, kind, name)


def run(cfg: DictConfig) -> None:
    """Train the reference model, or go on with it, and draw how it grew; with ``pack=true`` write it."""
    if cfg.pack:
        _pack(cfg)
        return
    run_steps(steps(_data(cfg)))
    if cfg.growth:
        _grow(cfg, PLAIN)
    print(f"the report: {Path(cfg.paths.runs) / TOLD / 'report' / 'index.html'}")
    print("the model that ships is written by: python src/reference.py pack=true")


def steps(data: Sequence[str]) -> list[Step]:
    """Return what is run, ``data`` being the words that say which data set."""
    *before, edm, report = steps_of(SCALE, NAME, data=data)
    told = Step("ZoomLDM, told the level above", ("src/train.py", f"model=zoomldm_zoom_{SCALE}", *data), TOLD)
    report = Step(report.title, ("src/evaluate.py", *data, f"run={TOLD}"), report.makes)
    return [*before, told, edm, report]


def _data(cfg: DictConfig) -> tuple[str, ...]:
    own = (f"data.demo_slides.num_patients={cfg.patients}",) if cfg.patients else ()
    return (f"data={NAME}", *own)


def _grow(cfg: DictConfig, run_name: str) -> None:
    """Evaluate the kept checkpoints of the ZoomLDM run, few patches each, and draw the distances."""
    from zoomldm.evaluation.growth import draw_growth

    folder = find_run(cfg.paths.runs, "zoomldm", run_name).folder
    few = ("rows=[oracle]", "metrics=[paired]", f"num_per_magnification={cfg.growth}")
    words = ("src/evaluate.py", *_data(cfg), f"run={run_name}", *few)
    kept = checkpoint_steps(folder / "checkpoints")
    run_steps([Step(f"distances at step {step:,}", (*words, f"step={step}"), "report") for step in kept])
    print(f"how it grew: {draw_growth(folder)}")


def _pack(cfg: DictConfig) -> None:
    """Write what was trained as the model that ships, or into the folder that was named."""
    from zoomldm.export.packed import pack
    from zoomldm.export.packed_card import Training
    from zoomldm.stages.packed import SHIPPED
    from zoomldm.stages.trained import load_trained

    trained = load_trained(cfg.paths.runs, TOLD, edm=EDM, wants_edm=True)
    target = Path(cfg.folder) if cfg.folder else SHIPPED
    sizes = pack(
        source_of(trained),
        target,
        trainings=[Training.of(find_run(cfg.paths.runs, kind, name)) for name, kind in TRAININGS],
        places=[path for path in plain(cfg.paths).values() if isinstance(path, str)],
    )
    print(f"packed into {target}: {sum(sizes.values()) / 1e6:.1f} MB; model=reference of sample.py and evaluate.py")
