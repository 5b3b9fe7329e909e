"""Checks of evaluate.py's and sample.py's configuration that take no time: no torch, no model, only files looked at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoomldm.errors import ConfigError, UserError, near_match
from zoomldm.runs.run import Run, find_run, find_runs

CONDITIONS = ("oracle", "generated")
ROW_NAMES = ("halves", "held_out", "reconstructions", "oracle", "generated", "shuffled", "untrained")


def check_evaluate(cfg: Any) -> None:
    """Refuse what cannot be evaluated.

    Raises:
        UserError: no such run, row or magnification; senseless numbers.
    """
    find_run(cfg.paths.runs, "zoomldm", cfg.run)
    for row in cfg.rows:
        if row not in ROW_NAMES:
            raise ConfigError(
                f"rows: no row {row!r};{near_match(str(row), ROW_NAMES)} expected some of {', '.join(ROW_NAMES)}"
            )
    _check_numbers(cfg, {"num_per_magnification": 8, "batch_size": 1})


def check_sample(cfg: Any) -> None:
    """Refuse what cannot be sampled.

    Raises:
        UserError: no such run or conditions; senseless numbers.
    """
    run = None if cfg.weights else find_run(cfg.paths.runs, "zoomldm", cfg.run)
    if cfg.conditions not in CONDITIONS:
        raise ConfigError(
            f"conditions={cfg.conditions}:{near_match(str(cfg.conditions), CONDITIONS)} expected oracle or generated"
        )
    if cfg.split not in ("train", "test"):
        raise ConfigError(f"split={cfg.split}: expected train or test")
    _check_numbers(cfg, {"n": 1, "batch_size": 1})
    if run is None:
        _check_published(cfg)
    elif cfg.conditions == "generated":
        find_edm(cfg.paths.runs, run.name, cfg.edm)


def _check_published(cfg: Any) -> None:
    if cfg.run or cfg.edm:
        raise ConfigError("weights= samples from a published file, run= and edm= from runs of yours: give one of them")
    if cfg.conditions == "generated" and not cfg.edm_weights:
        raise ConfigError("conditions=generated with weights= needs edm_weights=, the file of the condition model")
    if cfg.conditions == "oracle" and not cfg.get("data"):
        raise ConfigError(
            "conditions=oracle with weights= needs data=, a data set prepared with encoder=uni; or choose "
            "conditions=generated and give edm_weights="
        )
    for key in ("weights", "edm_weights"):
        if cfg[key] and not Path(cfg[key]).expanduser().exists():
            raise ConfigError(f"{key}={cfg[key]}: no such file; docs/weights.md says where it is published")


def find_edm(runs: str | Path, zoomldm_run: str, name: str | None) -> Run:
    """Return the named embedding diffusion model's run, or the newest that learnt the tokens of a ZoomLDM run.

    Raises:
        UserError: there is none; the named one learnt another run's tokens.
    """
    if name is not None:
        run = find_run(runs, "edm", name)
        if (learnt := run.config["zoomldm"]["run"]) != zoomldm_run:
            raise UserError(f"edm={name}: learnt the tokens of run {learnt}, not of {zoomldm_run}; name another")
        return run
    belonging = list(_edms_of(runs, zoomldm_run))
    if not belonging:
        raise UserError(
            f"no embedding diffusion model learnt the tokens of run {zoomldm_run}; train one: `python src/train.py "
            f"model=edm zoomldm.run={zoomldm_run}` (demo: model=edm_tiny), or choose conditions=oracle"
        )
    return belonging[-1]


def _edms_of(runs: str | Path, zoomldm_run: str) -> Iterator[Run]:
    for run in find_runs(runs, "edm"):
        try:
            if run.config["zoomldm"]["run"] == zoomldm_run:
                yield run
        except (OSError, KeyError, TypeError):
            continue


def _check_numbers(cfg: Any, least: dict[str, int]) -> None:
    for key, minimum in least.items():
        value = cfg[key]
        if value is not None and not (isinstance(value, int) and value >= minimum):
            raise ConfigError(f"{key}={value}: expected a whole number of {minimum} or more")
    for key in ("steps", "guidance_scale"):
        value = cfg.sampling[key]
        if value is not None and not value > 0:
            raise ConfigError(f"sampling.{key}={value}: expected a number above 0")
