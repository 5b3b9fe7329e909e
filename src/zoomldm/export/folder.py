"""A trained run as a folder for users of diffusers: weights and sizes of every part, and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler

from zoomldm.data.manifest import Manifest
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.export.anonymous import names_of, require_anonymous
from zoomldm.export.model_card import card
from zoomldm.export.parts import PatchAutoencoder, Summarizer, TokenDiffusion
from zoomldm.export.pipeline import ZoomLDMPipeline
from zoomldm.export.source import Source
from zoomldm.files import sha256_of, write_atomically
from zoomldm.ladder import Ladder
from zoomldm.sampling.settings import interval_of, scales_of

EDM_SIZES = ("network", "width", "depth", "num_heads")
NOT_SIZES = ("loss", "tokens", "init", "weights")
"""Keys of a model's configuration that say nothing of its sizes."""


def write_folder(source: Source, target: Path, *, title: str, places: Iterable[str] = ()) -> None:
    """Write a run as a folder, in the place of what is there.

    Args:
        title: heading of the model card.
        places: folders whose names must not leave.

    Raises:
        UserError: a name that must not leave would; then nothing is written.
    """
    aside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        make_pipeline(source).save_pretrained(aside, safe_serialization=True)
        scheduler_of(source.model.schedule, source.model.prediction).save_pretrained(aside / "scheduler")
        write_atomically(aside / "README.md", card(source, title=title, parts=parts_of(aside)))
        require_anonymous(aside, names_of(source.manifest, [*places, source.run.folder]))
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def make_pipeline(source: Source) -> ZoomLDMPipeline:
    """Make the pipeline of a run in memory."""
    model, config, manifest = source.model, source.config, source.manifest
    summarizer = Summarizer(
        cond=config["cond"],
        tokens=config["model"]["tokens"],
        num_rungs=len(manifest.ladder),
        grid_dim=manifest.encoder.dim,
    )
    summarizer.conditioner.load_state_dict(model.conditioner.state_dict())
    pipeline = ZoomLDMPipeline(
        unet=model.unet,
        vqvae=_autoencoder(source),
        summarizer=summarizer,
        edm=_edm(source),
        ladder=manifest.ladder.to_dict(),
        encoder=_encoder_facts(manifest),
        sampling={
            **_sampling(config, manifest.ladder),
            **{part: config[part] for part in ("schedule", "prediction", "solver")},
        },
    )
    for part in (pipeline.unet, pipeline.vqvae, pipeline.summarizer, pipeline.edm):
        if part is not None:
            part.eval()
    return pipeline


def _sampling(config: dict[str, Any], ladder: Ladder) -> dict[str, Any]:
    """Return how a run is sampled: guidance as one number or one a rung, and an interval where there is one."""
    said = config["sampling"]
    interval = interval_of(said["guidance_interval"])
    return {
        "steps": said["steps"],
        "guidance_scale": scales_of(said["guidance_scale"], ladder),
        **({} if interval is None else {"guidance_interval": interval}),
    }


def scheduler_of(schedule: NoiseSchedule, prediction: Prediction) -> DDIMScheduler:
    """Tell diffusers the noise schedule and what is predicted: as its DDIM, by latent-diffusion's conventions."""
    return DDIMScheduler(
        **schedule.diffusers_arguments(),
        prediction_type=prediction.diffusers_name,
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        timestep_spacing="leading",
    )


def _autoencoder(source: Source) -> Any:
    module, scale = source.autoencoder.module, source.model.latent_scale
    if source.is_plain_vq:
        module.vq.register_to_config(scaling_factor=scale)
        return module.vq
    sizes = {key: value for key, value in source.autoencoder.config["model"].items() if key not in NOT_SIZES}
    exported = PatchAutoencoder(model=sizes, scaling_factor=scale)
    exported.autoencoder.load_state_dict(module.state_dict())
    return exported


def _edm(source: Source) -> TokenDiffusion | None:
    if source.edm is None:
        return None
    edm, config = source.edm.module, source.edm.config
    sampling = _sampling(config, source.manifest.ladder)
    exported = TokenDiffusion(
        model={key: config["model"][key] for key in EDM_SIZES},
        schedule=config["schedule"],
        solver=config["solver"],
        prediction=config["prediction"],
        **edm.facts(),
        label=config.get("label") and {**config["label"], "file": ""},  # where it lay is nobody's business
        num_steps=sampling.pop("steps"),
        **sampling,
    )
    exported.edm.load_state_dict(edm.state_dict())
    return exported


def _encoder_facts(manifest: Manifest) -> dict[str, Any]:
    encoder = manifest.encoder
    facts = {name: getattr(encoder, name) for name in ("name", "dim", "weights_sha256", "input_px", "mpp")}
    statistics = {k: v for k, v in (encoder.statistics or {}).items() if k in ("mean", "std", "features")}
    return facts | {"statistics": statistics or None}


def parts_of(folder: Path) -> dict[str, str]:
    """Return the hash of every weight file in an export, by its path there."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*.safetensors"))}
