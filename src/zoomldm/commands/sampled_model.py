"""Which model sample.py samples: that of a run of ours, or a published one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.commands.job import allowed
from zoomldm.commands.requests import data_root, packed_model
from zoomldm.config import option_of
from zoomldm.data.manifest import Manifest
from zoomldm.ladder import PAPER_LADDER
from zoomldm.launch.processes import is_first_process

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.sampling.generator import PatchGenerator
    from zoomldm.sampling.sources.base import Source
    from zoomldm.stages.trained import HowToSample


def manifest_of(cfg: DictConfig, trained: Mapping[str, Any] | None) -> Manifest | None:
    """Return the data set that was named, else the model's own; None for a published model without one."""
    if not data_root(cfg) and (packed := packed_model(cfg)):
        return packed.manifest
    root = data_root(cfg) or (trained and trained["data"]["root"])
    return Manifest.load(root) if root else None


def model_of(cfg: DictConfig, how: HowToSample, source: Source) -> tuple[PatchGenerator, str, dict[str, Any]]:
    """Load the models; return what samples them, their name, and what every patch says of them."""
    from zoomldm.sampling.making import facts_of

    generator, name, weights = _published(cfg, how, source) if cfg.weights else _of_run(cfg, how, source)
    return generator, name, facts_of(generator, source, model=name, weights=weights)


def _of_run(cfg: DictConfig, how: HowToSample, source: Source) -> tuple[PatchGenerator, str, dict[str, str]]:
    from zoomldm.stages.trained import load_trained

    wanted = {"data_root": data_root(cfg), "wants_edm": source.needs_edm}
    if packed := packed_model(cfg):
        trained = packed.load(cfg.paths.runs, **wanted)
    else:
        trained = load_trained(cfg.paths.runs, cfg.run, edm=cfg.edm, allow=allowed(cfg), **wanted)
    if is_first_process():
        print(f"sampling from run {trained.run.name}, checkpoint of step {trained.model.step}")
    return trained.generator(how), trained.run.name, trained.weights


def _published(cfg: DictConfig, how: HowToSample, source: Source) -> tuple[PatchGenerator, str, dict[str, str]]:
    """Load an official ZoomLDM. Its condition model knows no dropped magnification, so there is no guidance for it.

    Raises:
        WeightsError: the files are not an official ZoomLDM's. DataError: the data set's grids were not made with UNI.
    """
    from zoomldm.diffusion.solvers.base import Solver
    from zoomldm.runs.lineage import parent_of_file
    from zoomldm.sampling.generator import PatchGenerator
    from zoomldm.sampling.settings import Sampling
    from zoomldm.stages.published import load_published

    published = load_published(cfg.weights, edm_path=cfg.edm_weights if source.needs_edm else None)
    for report in published.reports:
        print(report)
    manifest = manifest_of(cfg, None)
    if manifest:
        manifest.check_encoder(published.encoder)
    ddim, ddim_even = (option_of("solver", name).make(Solver) for name in ("ddim", "ddim_even"))
    usual = Sampling(solver=ddim, steps=50, guidance_scale=1.75, guidance_interval=None)
    generator = PatchGenerator(
        published.model,
        published.autoencoder,
        edm=published.edm,
        sampling=how.over(usual, manifest.ladder if manifest else PAPER_LADDER),
        edm_sampling=Sampling(solver=ddim_even, steps=200, guidance_scale=1.0, guidance_interval=None),
        seed=how.seed,
        compute=how.compute,
    )
    files = {"model": cfg.weights} | ({"edm": cfg.edm_weights} if source.needs_edm else {})
    weights = {part: parent_of_file(Path(path).expanduser()).sha256 for part, path in files.items()}
    return generator, f"published-{Path(cfg.weights).stem}", weights
