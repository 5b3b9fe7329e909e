"""Synthetic patches from an official ZoomLDM checkpoint (CVPR 2025), as it is published: ``sample.py weights=…``."""

from pathlib import Path
from typing import Any

from zoomldm import build
from zoomldm.commands.evaluation import device_of, write_samples
from zoomldm.data.manifest import Manifest
from zoomldm.diffusion.solvers.ddim import DDIM
from zoomldm.ladder import Ladder
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.stages.published import load_published

STEPS, GUIDANCE_SCALE = 50, 1.75
EDM_STEPS, EDM_GUIDANCE_SCALE = 200, 1.0
"""The official condition model samples in 200 steps and knows no dropped magnification, so there is no guidance."""


def sample(cfg: Any) -> list[Path]:
    """Write synthetic patches of a published model; return the paths of the contact sheets.

    Raises:
        WeightsError: the files are not an official ZoomLDM's.
        DataError: the data set's grids were not made with UNI.
    """
    wants_edm = cfg.conditions == "generated"
    published = load_published(cfg.weights, edm_path=cfg.edm_weights if wants_edm else None)
    for report in published.reports:
        print(report)
    manifest = None
    if not wants_edm:
        manifest = Manifest.load(build.plain(cfg.data)["root"])
        manifest.check_encoder(published.encoder)
    generator = PatchGenerator(
        published.model,
        published.autoencoder,
        edm=published.edm,
        edm_solver=DDIM(spacing="even", last_alpha_bar=1.0),
        steps=cfg.sampling.steps or STEPS,
        guidance_scale=GUIDANCE_SCALE if cfg.sampling.guidance_scale is None else cfg.sampling.guidance_scale,
        edm_steps=EDM_STEPS,
        edm_guidance_scale=EDM_GUIDANCE_SCALE,
        seed=cfg.seed,
        device=device_of(cfg.device),
    )
    name = f"published-{Path(cfg.weights).stem}"
    folder = Path(cfg.paths.runs) / name / "samples"
    return write_samples(generator, manifest, manifest.ladder if manifest else Ladder(), cfg, name=name, folder=folder)
